"""Holds a tiny but real ToolGen: its own tools, queries and API responses, and what makes and trains it.

world/         tools, tasks and the values that fill them
make_data.py   writes assets/, laid out as ToolGen's own data folder
train.py       trains the checkpoint in model/
score.py       tells how many of the demo queries an answer folder solves
"""

from pathlib import Path

DATA_DIR = Path(__file__).parent / "assets"
MODEL_DIR = Path(__file__).parent / "model"
