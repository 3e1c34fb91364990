# %%
%pip install pears
!pear --version
# %%
import pears


def weigh(pear, *, unit="g"):
    """
    Weigh one.
    """
    return f"{pear.weight} {unit}"
# %%
print(weigh(pears.first, unit="oz"))
# %%
%matplotlib inline
pears.draw(
    pears.all,
    title="a < b & c",  # <- the title
)
