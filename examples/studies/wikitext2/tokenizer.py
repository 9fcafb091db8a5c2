"""Train the tokenizer of the reduced protocol: 4,096 tokens of GPT-2's kind.

    python tokenizer.py Salesforce/wikitext:wikitext-2-v1 gpt2 bpe4096
    python tokenizer.py /data/wikitext-2 /data/tokenizers/gpt2 bpe4096

GPT-2's own 50,257 tokens would spend nine tenths of a small model's work on its last layer. Only
the training split is read. The same text gives the same tokenizer.
"""

import sys

from datasets import load_dataset
from transformers import AutoTokenizer

NUM_TOKENS = 4096
BATCH = 1000


def main(data: str, original: str, folder: str) -> None:
    """Train on the lines of a folder, or of REPOSITORY:CONFIGURATION, and save in a folder."""
    lines = load_dataset(*data.split(":"), split="train")["text"]
    batches = (lines[start : start + BATCH] for start in range(0, len(lines), BATCH))
    tokenizer = AutoTokenizer.from_pretrained(original)
    tokenizer.train_new_from_iterator(batches, NUM_TOKENS).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python tokenizer.py DATA ORIGINAL_TOKENIZER FOLDER")
    main(*sys.argv[1:])
