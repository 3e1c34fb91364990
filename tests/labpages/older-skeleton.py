# %%
import statistics

weights = [142.0, 155.5, 149.25]
# %%
weights = sorted(weights, reverse=True)
for weight in weights:
    print(weight)
# %%
statistics.mean(weights)
