# %%
plums = 12
# %%
plums -= 3
print(plums)
