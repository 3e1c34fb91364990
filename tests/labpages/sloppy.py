# %%
quinces = [3, 1, 2]
# %%
quinces.sort()
if quinces:
    print(quinces[0])
# %%
largest = max(quinces)
# %%
smallest = min(quinces)
# %%
total = sum(quinces)
# %%
a = 1
b = 2
# %%
print(a < b)
# %%
done = True
