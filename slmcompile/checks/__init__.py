"""What the compiler proves before anything is spent.

Each rule is one registered function ``(CheckContext) -> Verdict`` (``registry.py``). ``plan`` and
``run`` judge with what is known without running anything: the recipe, the files it names and, once
the ``base`` and ``data`` stages have run, the facts that they left (``base/facts.py``,
``data/report_facts.py``). A rule that lacks a fact answers *needs a probe* and names the stage that
will bring it; the ``check`` stage, between ``data`` and ``train``, judges by the same functions
again and stops the pipeline before training.

Nothing here imports torch, transformers or a tokenizer, changes anything or opens a connection.
"""
