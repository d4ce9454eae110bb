"""Measures the package. README.md here has every figure, with its command."""

# It quiets what torchao, where it is installed, logs when transformers imports it.
import evaluation.toolbench.inference.engine  # noqa: F401
