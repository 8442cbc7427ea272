"""From a loss for one example to a trained, checkpointed, exactly resumable model.

`state` holds what training carries, `step` advances it, `optimizer` names the usual choices, `loop` runs steps, `log` records and
shows them, `checkpoint` keeps them, and `stages` trains several models in order.
"""
