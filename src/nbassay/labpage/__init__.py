"""
A LiveLabs page, read as the notebook that a learner would make of it.

`source` brings a page's lines together as LiveLabs does (includes, variables, variants), `markdown`
parses them, `code` decides what a block puts into a notebook, `page` is the whole page in reading
order, `notebook` makes the starter notebook of it. docs/lab-pages.md tells the rules.
"""

from nbassay.labpage.code import Block
from nbassay.labpage.notebook import to_notebook
from nbassay.labpage.page import Code, Page, Prose, open_page, read_page, require_cells
from nbassay.labpage.source import Flaw, PageError, Place

__all__ = [
    "Block",
    "Code",
    "Flaw",
    "Page",
    "PageError",
    "Place",
    "Prose",
    "open_page",
    "read_page",
    "require_cells",
    "to_notebook",
]
