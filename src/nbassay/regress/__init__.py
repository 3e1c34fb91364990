"""
``nbassay regress``: the lab's page against its own text.

`health` looks at the page, `names` at its code, `claims` reads what the author marked as testable,
`pagerun` runs the cells in the sandbox, `twice` runs them again in the same kernel, `judge` puts a
report together, `render` makes it readable. docs/regress.md tells the words.
"""
