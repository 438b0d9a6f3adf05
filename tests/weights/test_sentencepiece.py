"""SentencePiece's own file: the same vocabulary as llama2.c writes from it, and refusals."""

import pytest

from picolab.errors import BadCheckpoint
from picolab.weights.llama2c import read_llama2c_tokenizer
from picolab.weights.sentencepiece import read_sentencepiece

from reader_files import pieces, spm, write_sentencepiece
from trained_story import STORIES, needs_stories, reference


def test_a_vocabulary_written_as_sentencepiece_writes_gives_the_same_ids(tmp_path):
    write_sentencepiece(pieces(), tmp_path / "tokenizer.model")
    loaded = read_sentencepiece(tmp_path / "tokenizer.model")
    assert loaded.fingerprint == spm().fingerprint
    assert (loaded.eot, loaded.opening, loaded.pad) == (2, (1,), None)


@needs_stories
def test_the_trained_models_two_vocabularies_agree_but_for_runs_of_spaces():
    ours, other = read_sentencepiece(STORIES / "tok512.model"), read_llama2c_tokenizer(STORIES / "tok512.bin")
    text = reference()["text"]
    assert ours.encode(text) == other.encode(text)
    assert ours.encode("  two  spaces ") == other.encode("two spaces")


@pytest.mark.parametrize("keep", [1, 5, 1000, -1, -3])
def test_a_torn_file_is_refused(tmp_path, keep):
    path = tmp_path / "tokenizer.model"
    write_sentencepiece(pieces(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadCheckpoint, match="is no SentencePiece model|is no byte-pair"):
        read_sentencepiece(path)


def test_a_unigram_model_is_refused(tmp_path):
    path = tmp_path / "tokenizer.model"
    write_sentencepiece(pieces(), path)
    kind, unigram, next_field = bytes([3 << 3, 2]), bytes([3 << 3, 1]), bytes([40 << 3 & 0x7F | 0x80])
    path.write_bytes(path.read_bytes().replace(kind + next_field, unigram + next_field))
    with pytest.raises(BadCheckpoint, match="is no byte-pair encoding"):
        read_sentencepiece(path)
