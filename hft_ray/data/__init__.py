"""Training and evaluation data: where it lies, its formats, tokens and labels, batches.

Knows neither Ray nor MLflow. ``prepare`` gives the tokenised training set of FILE, cached;
``batch_indices`` and ``concatenate`` make its batches; ``read_records`` reads evaluations' data.
"""

from hft_ray.data.batches import (
    Item,
    as_batch,
    batch_indices,
    collate,
    concatenate,
    on_device,
    steps_per_epoch,
)
from hft_ray.data.border import encode_text, join, leading_bos, split
from hft_ray.data.cache import prepare, read_examples
from hft_ray.data.dataset import TrainingSet
from hft_ray.data.encode import IGNORED, Encoded, encode
from hft_ray.data.examples import (
    Dialogue,
    DialoguePair,
    Example,
    Message,
    Pair,
    TemplateArguments,
    Text,
    TextPair,
)
from hft_ray.data.formats import convert, convert_all, detect
from hft_ray.data.locate import content_hash, locate
from hft_ray.data.mixture import Mixture, joined, share_of, weighted
from hft_ray.data.packing import share_out
from hft_ray.data.pairs import (
    PairSet,
    collate_pairs,
    encode_answers,
    prepare_pairs,
    read_pairs,
)
from hft_ray.data.preference import convert_pair, convert_pairs
from hft_ray.data.records import Record, Records, read_records
from hft_ray.data.turn import TurnEnd, end_tokens, turn_end

__all__ = [
    "IGNORED",
    "Dialogue",
    "DialoguePair",
    "Encoded",
    "Example",
    "Item",
    "Message",
    "Mixture",
    "Pair",
    "PairSet",
    "Record",
    "Records",
    "TemplateArguments",
    "Text",
    "TextPair",
    "TrainingSet",
    "TurnEnd",
    "as_batch",
    "batch_indices",
    "collate",
    "collate_pairs",
    "concatenate",
    "content_hash",
    "convert",
    "convert_all",
    "convert_pair",
    "convert_pairs",
    "detect",
    "encode",
    "encode_answers",
    "encode_text",
    "end_tokens",
    "join",
    "joined",
    "leading_bos",
    "locate",
    "on_device",
    "prepare",
    "prepare_pairs",
    "read_examples",
    "read_pairs",
    "read_records",
    "share_of",
    "share_out",
    "split",
    "steps_per_epoch",
    "turn_end",
    "weighted",
]
