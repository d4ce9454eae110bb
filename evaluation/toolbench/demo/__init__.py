"""Holds a tiny but real ToolGen: its own tools, queries and API responses, and what makes and trains it.

Reading order:

    world/                     tools, tasks and the values that fill them
    samples                    conversations with right answers, and the demo's fixed queries
    make_data, retrieval_files writes assets/, laid out as ToolGen's own data folder; its retrieval test
    score                      tells how many of the demo's queries an answer folder solves
    conversations, tokenizer   a conversation as token ids, with the parts that the model writes marked
    corpus, rollout            batches to train on; answers of the model in memory
    train, model_card          trains the checkpoint in model/; the README.md beside it
"""

from pathlib import Path

DATA_DIR = Path(__file__).parent / "assets"
MODEL_DIR = Path(__file__).parent / "model"
