"""
The self-check in a learner's own kernel: ``%load_ext nbassay``, then ``%assay``.

The kernel only watches (`watch`) and asks; a process of its own (`judge`) measures, checks and
renders, so that neither pytest nor the lab's data ever enter the learner's kernel.
"""
