"""Sounds: WAV files of all kinds, the folds of the spoken digits, the generated tones, and the nets that hear them."""

import hashlib
import io
import math
import os
import socket
import struct
import tarfile
import threading
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Said, curves, one_line
from scipy.io import wavfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dl_zoo import create_model
from dl_zoo.callbacks.spectrograms import RANGE, captions_of, decibels
from dl_zoo.data import spoken_digits, wav
from dl_zoo.data.spoken_digits import RECORDINGS, SPEAKERS, SpokenDigits, file_of
from dl_zoo.data.tones import Tones, pattern
from dl_zoo.errors import UserError
from dl_zoo.models.audio_cnn import AudioCNN, LogMel
from dl_zoo.models.audio_cnn1d import AudioCNN1d
from dl_zoo.probes.mel_logistic import averaged, mel_logistic

SINE = np.sin(2 * np.pi * 440 * np.arange(1600) / 8000) * 0.5


def pcm(path: Path, values: np.ndarray, bits: int = 16, channels: int = 1, rate: int = 8000) -> Path:
    """A WAV by Python's own module, which knows nothing of SciPy's: values in -1..1, (S,) or (S, channels)."""
    top = 2 ** (bits - 1) - 1
    whole = np.round(values * top).astype(int).flatten()
    content = (
        bytes((whole + 128).tolist())
        if bits == 8
        else b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(content)
    return path


# ---- WAV files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_any_width_is_the_same_sound(bits: int, tmp_path: Path) -> None:
    sound, rate = wav.decoded(pcm(tmp_path / "a.wav", SINE, bits), 8000)
    assert (rate, sound.dtype, sound.shape) == (8000, torch.float32, (1600,))
    assert (sound.numpy() - SINE).__abs__().max() < 2 ** -(min(bits, 24) - 2)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_floating_point_is_left_as_it_is(kind: str, tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, SINE.astype(kind))
    assert torch.equal(wav.decoded(tmp_path / "a.wav", 8000)[0], torch.from_numpy(SINE).float())


def test_extremes_of_16_bits_are_minus_one_and_nearly_one(tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, np.array([-32768, 0, 32767], np.int16))
    assert wav.decoded(tmp_path / "a.wav", 8000)[0].tolist() == [-1, 0, 32767 / 32768]


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = pcm(tmp_path / "a.wav", np.stack([SINE, np.zeros_like(SINE)], 1), channels=2)
    assert np.allclose(wav.decoded(path, 8000)[0].numpy(), SINE / 2, atol=1e-4)


@pytest.mark.parametrize("theirs", [4000, 11025, 16000, 22050, 44100, 48000])
def test_another_rate_is_resampled_to_the_same_tone(theirs: int, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(theirs) / theirs)
    sound, told = wav.decoded(pcm(tmp_path / "a.wav", tone, rate=theirs), 8000)
    assert (told, sound.shape) == (theirs, (8000,))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    inner = slice(200, -200)  # at its ends the filter meets the silence around the sound
    assert np.abs(sound.numpy() - expected)[inner].max() < 0.01


def test_what_is_above_half_the_rate_does_not_come_back_as_a_lower_tone(tmp_path: Path) -> None:
    high = 0.5 * np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000)
    sound, _ = wav.decoded(pcm(tmp_path / "a.wav", high, rate=16000), 8000)
    assert sound[200:-200].abs().max() < 0.01


def broken(kind: str, path: Path) -> Path:
    whole = pcm(path, SINE).read_bytes()
    nan = io.BytesIO()
    wavfile.write(nan, 8000, np.array([0.0, math.nan], np.float32))
    path.write_bytes({
        "empty file": b"",
        "text": b"hello, this is no sound at all; but it is long enough",
        "zero length": pcm(path, SINE[:0]).read_bytes(),
        "no header": whole[:20],
        "cut": whole[:-1000],
        "cut within a sample": whole[:-1001],
        "not a number": nan.getvalue(),
        "rate 0": whole[:24] + struct.pack("<II", 0, 0) + whole[32:],
        "odd rate": whole[:24] + struct.pack("<II", 44101, 88202) + whole[32:],
    }[kind])  # fmt: skip
    return path


BROKEN = {
    "empty file": "is no WAV file",
    "text": "is no WAV file",
    "zero length": "holds no sound: its length is zero",
    "no header": "is no WAV file, or a damaged one",
    "cut": "ends too early",
    "cut within a sample": "",
    "not a number": "holds samples that are no numbers",
    "rate 0": "",
    "odd rate": "has 44,101 samples a second, which cannot be brought to 8,000",
}


@pytest.mark.parametrize(("kind", "reason"), BROKEN.items())
def test_what_is_no_sound_is_told_in_a_line(kind: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(wav.Unreadable) as error:
        wav.decoded(broken(kind, tmp_path / "a.wav"), 8000)
    assert str(error.value).startswith(reason)
    assert "\n" not in str(error.value)


def test_chunks_beside_the_sound_do_not_matter(tmp_path: Path) -> None:
    whole = pcm(tmp_path / "a.wav", SINE).read_bytes()
    odd = whole[:36] + b"zzzz" + struct.pack("<I", 4) + b"1234" + whole[36:]
    (tmp_path / "b.wav").write_bytes(odd[:4] + struct.pack("<I", len(odd) - 8) + odd[8:])
    assert torch.equal(wav.decoded(tmp_path / "a.wav", 8000)[0], wav.decoded(tmp_path / "b.wav", 8000)[0])


def test_a_sound_is_brought_to_a_length() -> None:
    sound = torch.arange(1.0, 6)
    assert wav.fitted(sound, 3).tolist() == [[1, 2, 3]]
    assert wav.fitted(sound, 5).tolist() == [[1, 2, 3, 4, 5]]
    assert wav.fitted(sound, 7).tolist() == [[1, 2, 3, 4, 5, 0, 0]]


# ---- spoken digits ---------------------------------------------------------------------------------------------------


def marked(place: int) -> np.ndarray:
    """A sound that says which recording it is, in its first sample; of a length of its own."""
    return np.concatenate([[place], np.full(40 + place % 7, 100)]).astype(np.int16)


class Original:
    """All 3,000 recordings, a few samples each: in a folder, and packed as GitHub does, among other files."""

    def __init__(self, root: Path):
        self.root, folder = root, root / "fsdd/recordings"
        folder.mkdir(parents=True)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for name, content in [("README.md", b"read me"), ("other/0_george_0.wav", b"another")]:
                add(archive, name, content)
            for place, recording in enumerate(RECORDINGS):
                wavfile.write(folder / file_of(recording), 8000, marked(place))
                add(archive, f"recordings/{file_of(recording)}", (folder / file_of(recording)).read_bytes())
        self.archive = packed.getvalue()
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
        self.digest = hashlib.sha256("".join(lines).encode()).hexdigest()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.10/{name}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(tmp_path_factory.mktemp("original"))


@pytest.fixture
def stored(original: Original, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data_dir where the small recordings lie, which count as the originals."""
    monkeypatch.setattr(SpokenDigits, "digest", original.digest)
    return original.root


@pytest.fixture
def server(original: Original, stored: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Serves them packed; `archive` is what is sent."""
    state = SimpleNamespace(archive=original.archive, gets=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.gets += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.archive)))
            self.end_headers()
            self.wfile.write(state.archive)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(SpokenDigits, "archives", [f"http://127.0.0.1:{one.server_port}/v1.tar.gz"])
        yield state
        one.shutdown()


def digits(**settings: Any) -> SpokenDigits:
    data = SpokenDigits({}, **{"data_dir": "data", **settings})
    data.setup()
    return data


def who(data: SpokenDigits, split: str) -> list[tuple[int, str, int]]:
    """The recordings of a split, by what `marked` wrote into them."""
    inputs, targets = data.splits[split]
    found = [RECORDINGS[round(place)] for place in (inputs[:, 0, 0] * 32768).tolist()]
    assert [digit for digit, *_ in found] == targets.tolist()
    return found


def test_downloaded_once_checked_and_read(server: SimpleNamespace) -> None:
    data = digits()
    assert data.dims == {"samples": 8000, "sample_rate": 8000, "features": 8000, "num_classes": 10}
    assert {path.name for path in Path("data/fsdd").iterdir()} == {"recordings"}
    assert len(list(Path("data/fsdd/recordings").iterdir())) == 3000
    digits()
    assert server.gets == 1, "what is there is not downloaded again"
    Path("data/fsdd/recordings/7_theo_3.wav").unlink()
    Path("data/fsdd/recordings/mine.wav").write_text("somebody's own file is left alone")
    assert digits().sizes == data.sizes
    assert server.gets == 2
    place = RECORDINGS.index((7, "theo", 3))
    sound = data.splits["test"][0][who(data, "test").index((7, "theo", 3)), 0]
    assert (sound[: len(marked(place))] * 32768).tolist() == marked(place).tolist()
    assert not sound[len(marked(place)) :].any(), "silence behind it"


def test_within_speakers_the_split_is_the_official_one(stored: Path) -> None:
    data = digits(fold="within", data_dir=str(stored))
    found = {split: who(data, split) for split in ("train", "val", "test")}
    indices = {split: {index for *_, index in items} for split, items in found.items()}
    assert indices == {"test": {*range(5)}, "val": {*range(5, 10)}, "train": {*range(10, 50)}}
    assert sorted(chain(*found.values())) == sorted(RECORDINGS)  # each once
    for split, each in (("train", 40), ("val", 5), ("test", 5)):
        pairs = Counter((digit, speaker) for digit, speaker, _ in found[split])
        assert len(pairs) == 60
        assert set(pairs.values()) == {each}
    assert len(set(data.splits["train"][1][:64].tolist())) == 10, "the first batch has all digits"
    other = digits(fold=None, seed=5, data_dir=str(stored))
    assert all(torch.equal(a, b) for a, b in zip(other.splits["test"], data.splits["test"], strict=True))


@pytest.mark.parametrize("fold", [0, 5, "lucas"])
def test_one_speaker_left_out(fold: int | str, stored: Path) -> None:
    data = digits(fold=fold, seconds=0.5, data_dir=str(stored))
    left_out = SPEAKERS.index(fold) if isinstance(fold, str) else fold
    found = {split: who(data, split) for split in ("train", "val", "test")}
    speakers = {split: {speaker for _, speaker, _ in items} for split, items in found.items()}
    assert speakers["test"] == {SPEAKERS[left_out]}
    assert speakers["val"] == {SPEAKERS[(left_out + 1) % 6]}
    assert speakers["train"] == {*SPEAKERS} - speakers["test"] - speakers["val"]
    assert sorted(chain(*found.values())) == sorted(RECORDINGS)
    assert data.sizes == {"train": 2000, "val": 500, "test": 500}
    assert data.dims["samples"] == data.splits["train"][0].shape[2] == 4000


@pytest.mark.parametrize("setting", ["fold=6", "fold=-1", "fold=bob", "fold=true", "seconds=0", "seconds=long"])
def test_settings_that_there_are_not(setting: str, cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "model=audio_cnn", "data=spoken_digits", f"data.{setting}"))
    key, value = setting.split("=")
    assert f"data.{key}={value}".lower() in said.lower()
    assert "must be" in said


@pytest.mark.parametrize("damage", ["cut", "lacking", "changed"])
def test_a_failed_download_leaves_nothing(
    damage: str, server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "cut":
        server.archive = server.archive[:5000]
    elif damage == "lacking":
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            add(archive, "recordings/0_george_0.wav", b"alone")
        server.archive = file.getvalue()
    else:
        monkeypatch.setattr(SpokenDigits, "digest", "0" * 64)
    with pytest.raises(UserError) as error:
        digits()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("spoken_digits: expected recordings/ (3,000 WAV files) in ")
    assert str(error.value).endswith("data=tones runs without a download")
    assert not [path for path in Path("data").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_without_a_network_it_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(SpokenDigits, "archives", [f"http://127.0.0.1:{port}/v1.tar.gz"])
    with pytest.raises(UserError, match="Connection refused"):
        digits()


def test_a_changed_recording_is_noticed_and_one_that_cannot_be_read_named(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored / "fsdd/recordings/4_lucas_9.wav"
    whole = path.read_bytes()
    try:
        pcm(path, SINE[:0])
        with pytest.raises(UserError, match=r"recordings is damaged .*: delete it to download it again"):
            digits(data_dir=str(stored))
        monkeypatch.setattr(SpokenDigits, "digest", spoken_digits.of_recordings(path.parent))
        with pytest.raises(UserError, match=r"4_lucas_9\.wav: holds no sound: its length is zero"):
            digits(data_dir=str(stored))
    finally:
        path.write_bytes(whole)


@pytest.mark.skipif(
    not Path(os.environ.get("DL_ZOO_DATA", "data"), "fsdd/recordings/0_george_0.wav").is_file(),
    reason="the recordings are not at hand (DL_ZOO_DATA)",
)
def test_the_recordings_themselves() -> None:
    """Those of the tag, by their digest; and what the file says of their lengths."""
    data = digits(data_dir=os.environ["DL_ZOO_DATA"])
    assert data.sizes == {"train": 2400, "val": 300, "test": 300}
    lengths = [len(wavfile.read(data.files.place / "recordings" / file_of(each))[1]) for each in RECORDINGS]
    assert sum(length > 8000 for length in lengths) == 20
    assert (min(lengths), max(lengths)) == (1148, 18262)
    sounds = torch.cat([inputs for inputs, _ in data.splits.values()])
    assert sounds.abs().amax((1, 2)).min() > 0.005, "none is silent"
    assert sounds.abs().max() == 1


# ---- tones -----------------------------------------------------------------------------------------------------------


def tones(**settings: Any) -> Tones:
    data = Tones({}, **{"train_items": 120, "eval_items": 60, **settings})
    data.setup()
    return data


def test_tones_are_drawn_once_and_for_all() -> None:
    one, other = tones(seed=1), tones(seed=2)
    assert one.dims == {"samples": 4000, "sample_rate": 8000, "features": 4000, "num_classes": 6}
    assert all(torch.equal(a, b) for a, b in zip(one.splits["train"], other.splits["train"], strict=True))
    assert not torch.equal(one.splits["val"][0], one.splits["test"][0])
    inputs, targets = one.splits["train"]
    assert (inputs.dtype, inputs.shape) == (torch.float32, (120, 1, 4000))
    assert 0.2 < inputs.abs().max() <= 1
    assert set(targets.tolist()) == set(range(6))
    with pytest.raises(UserError, match=r"data\.noise=-1: must be from 0 to 1"):
        Tones({}, noise=-1)


@pytest.mark.parametrize(("name", "first", "last"), [("rising", 1.1, 1.9), ("falling", 1.9, 1.1), ("steady", 1.5, 1.5)])
def test_a_tones_course_is_that_of_its_name(name: str, first: float, last: float) -> None:
    """The loudest frequency of the first and of the last fifth, in parts of the pitch that was drawn."""
    for seed in range(5):
        pitch = 300 * 5 ** np.random.RandomState(seed).rand()
        sound = pattern(name, np.random.RandomState(seed))
        for part, expected in ((sound[:400], first), (sound[-400:], last)):
            spectrum = np.abs(np.fft.rfft(part * np.hanning(400), 8192))
            assert np.argmax(spectrum) * 8000 / 8192 / pitch == pytest.approx(expected, rel=0.05)


def test_the_order_in_time_is_all_that_tells_rising_from_falling() -> None:
    rising, falling = (np.abs(np.fft.rfft(pattern(name, np.random.RandomState(3)))) for name in ("rising", "falling"))
    assert np.corrcoef(rising, falling)[0, 1] > 0.98


# ---- nets ------------------------------------------------------------------------------------------------------------


def test_m5_has_the_outputs_of_the_papers_table() -> None:
    """Table 1: after each pooling 2000, 500, 125 and 32 steps of 32,000 samples; 128, 128, 256, 512 maps; 0.5M."""
    with torch.device("meta"):
        net, sizes = AudioCNN1d(), []
        net.pool.register_forward_hook(lambda _, inputs, output: sizes.append((output.shape[1], output.shape[2])))
        assert net(torch.zeros(2, 1, 32000)).shape == (2, 10)
    assert sizes == [(128, 2000), (128, 500), (256, 125), (512, 32)]
    assert [(c.kernel_size, c.stride) for c in net.convolutions] == [((80,), (4,)), *[((3,), (1,))] * 3]
    assert [sum(p.numel() for p in c.parameters()) for c in net.convolutions] == [10240, 49152, 98304, 393216]


def test_a_longer_first_stride_shortens_what_follows() -> None:
    net, sizes = AudioCNN1d(width=4, stride=16), []
    net.convolutions[0].register_forward_hook(lambda *parts: sizes.append(parts[2].shape[2]))
    net(torch.zeros(1, 1, 8000))
    assert sizes == [500]
    with pytest.raises(ValueError, match="stride=3: must be an even number from 2 to 80"):
        AudioCNN1d(stride=3)


def written_out(x: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """The log-mel picture of one sound (S,) by the formulas, in loops: (T, bands)."""
    length, hop, size = rate // 40, rate // 100, 256
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    window = np.pad(window, (size - length) // 2)
    padded = np.pad(x, size // 2, mode="reflect")
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    hertz = np.arange(size // 2 + 1) * rate / size
    rows = []
    for start in range(0, len(x) + 1, hop):
        power = np.abs(np.fft.rfft(padded[start : start + size] * window)) ** 2
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            weights = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
            row.append(10 * np.log10(max((power * weights).sum(), 1e-10)))
        rows.append(row)
    table = np.array(rows)
    return (1 + (table - table.max()) / 80).clip(0)


def test_the_front_end_is_the_log_mel_spectrogram_written_out() -> None:
    sound = np.random.RandomState(0).standard_normal(2000) * 0.1
    sound[1200:] = 0
    found = LogMel(8000, 20)(torch.from_numpy(sound).float()[None, None])
    assert found.shape == (1, 1, 26, 20)
    assert (found.min(), found.max()) == (0, 1)
    np.testing.assert_allclose(found[0, 0].numpy(), written_out(sound, 8000, 20), atol=1e-4)


def test_a_gain_changes_nothing_and_silence_is_finite() -> None:
    mel, sound = LogMel(8000, 40), tones().splits["val"][0][:4]
    assert torch.allclose(mel(sound), mel(0.1 * sound), atol=1e-4)
    assert mel(torch.zeros(2, 1, 4000)).isfinite().all()
    assert not mel.state_dict()
    assert not list(mel.parameters())


@pytest.mark.parametrize("net", [AudioCNN, AudioCNN1d])
def test_sounds_of_any_length_and_no_head(net: type[nn.Module]) -> None:
    one = net(width=4).eval()
    assert {one(torch.randn(2, 1, samples)).shape for samples in (1600, 8000, 12345)} == {(2, 10)}
    assert one.heads == ("fc",)
    assert net(width=4, num_classes=0)(torch.randn(2, 1, 8000)).shape[1] == one.fc.in_features


def test_a_level_of_its_own_makes_loudness_meaningless() -> None:
    torch.manual_seed(0)
    plain, sound = AudioCNN1d(width=4).eval(), torch.randn(3, 1, 4000)
    level = AudioCNN1d(width=4, level=True).eval()
    level.load_state_dict(plain.state_dict())
    assert torch.allclose(level(0.01 * sound), level(sound), atol=1e-4)
    assert torch.allclose(level(sound), plain(sound / sound.square().mean((1, 2), keepdim=True).sqrt()), atol=1e-4)
    assert level(torch.zeros(2, 1, 4000)).isfinite().all()


def test_counts_by_arguments() -> None:
    assert sum(p.numel() for p in create_model("audio_cnn").parameters()) == 26618
    with torch.device("meta"):
        wide = AudioCNN(width=32, bands=64)
    expected = 9 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * (32 + 64 + 128) + 10 * (128 * 8 + 1)
    assert sum(p.numel() for p in wide.parameters()) == expected


# ---- the floor -------------------------------------------------------------------------------------------------------


def test_the_floor_hears_spectra_and_no_order() -> None:
    """Of tones: bursts and pairs it tells by their spectra; rising and falling, never trained apart, it guesses."""
    data = tones(train_items=600, eval_items=300)
    whole = mel_logistic(None, data)["mel_logistic"]
    assert 0.3 < whole < 0.8
    for split, (inputs, targets) in data.splits.items():
        kept = targets < 2
        data.splits[split] = inputs[kept], targets[kept]
    assert mel_logistic(None, data)["mel_logistic"] < 0.65


def test_silence_does_not_count_in_the_mean() -> None:
    power = torch.rand(2, 5, 7) + 0.1
    longer = torch.cat([power, torch.zeros(2, 5, 30)], 2)
    assert torch.allclose(averaged(longer), power.log().mean(2), atol=1e-6)
    assert averaged(torch.zeros(1, 5, 7)).isfinite().all()


def test_the_floor_of_pictures_is_refused(cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "model=mlp", "probe=[mel_logistic]", "trainer=smoke", "logger=none"))
    assert "probe=mel_logistic hears sounds, and these data have none; take data=spoken_digits or tones" in said


# ---- a run, and what it hears ------------------------------------------------------------------------------------

RUN = ["data.train_items=192", "data.eval_items=60", "trainer.max_epochs=2", "trainer=cpu", "optimizer.lr=1e-2"]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run on tones. Read it, but do not change it."""
    from dl_zoo.compose import compose
    from dl_zoo.run import run

    folder = tmp_path_factory.mktemp("heard") / "run"
    return run(compose(["model=audio_cnn", "model.width=4", *RUN, f"run_dir={folder}"])).folder


def test_spectrograms_are_drawn_while_it_learns(heard: Path) -> None:
    events = EventAccumulator(str(heard), size_guidance={"images": 0}).Reload()
    assert len(events.Images("samples/spectrograms")) == 2
    assert "val/acc" in curves(heard)


def test_the_picture_says_what_is_wrong() -> None:
    beliefs = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert captions_of(beliefs, [0, 0], ["yes", "no"]) == [("yes 0.90", True), ("no 0.80, is yes", False)]
    cells = decibels(torch.sin(2 * math.pi * 1000 * torch.arange(8000) / 8000), 8000)
    assert cells.shape[0] - 1 - cells[:, 100].argmax() == pytest.approx(
        cells.shape[0] / 4, abs=1
    )  # 1 of 4 kHz, from below
    assert (cells.min() >= -RANGE, cells.max()) == (True, 0)
    assert np.isfinite(decibels(torch.zeros(800), 8000)).all()


def files_to_hear() -> None:
    names = ["steady", "burst", "rising"]
    for name, rate in zip(names, (8000, 16000, 8000), strict=True):
        sound = 0.5 * pattern(name, np.random.RandomState(7))
        pcm(Path(f"{name}.wav"), np.tile(sound, 3) if name == "rising" else sound, rate=rate)


def test_predict_tells_classes_of_files(heard: Path, cli: Callable[..., Said]) -> None:
    files_to_hear()
    broken("zero length", Path("nothing.wav"))
    broken("text", Path("page.wav"))
    said = cli("predict", str(heard), "*.wav", "--top", "2", "--output", "found")
    assert said.code == 0
    told = said.err.strip().splitlines()
    assert told[1] == "dl-zoo: nothing.wav: holds no sound: its length is zero; left out"
    assert told[2].startswith("dl-zoo: page.wav: is no WAV file")
    assert told[0] == "dl-zoo: burst.wav: resampled from 16,000 to 8,000 samples a second"
    assert told[3] == "dl-zoo: rising.wav: cut to its first 0.5 of 0.75 s"
    rows = [row.split(",") for row in Path("found/predictions.csv").read_text().splitlines()]
    assert rows[0] == ["path", "class", "probability", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == ["burst.wav", "rising.wav", "steady.wav"]
    assert Path("found/predictions.png").read_bytes().startswith(b"\x89PNG")
    alone = cli("predict", str(heard), "steady.wav")
    assert alone.err == ""
    probabilities = [float(cell) for cell in alone.out.splitlines()[1].split(",")[2::2]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_predict_is_what_the_net_says_of_the_sound(heard: Path, cli: Callable[..., Said]) -> None:
    from dl_zoo.zoo import load_run

    files_to_hear()
    run = load_run(heard)
    sound = wav.fitted(wav.decoded(Path("steady.wav"), 8000)[0], 4000)[None]
    with torch.no_grad():
        expected: Tensor = run.net.eval()(sound).softmax(1)[0]
    row = cli("predict", str(heard), "steady.wav", "--top", "6").out.splitlines()[1].split(",")
    found = {name: float(p) for name, p in zip(row[1::2], row[2::2], strict=True)}
    assert found == pytest.approx(dict(zip(Tones({}).classes, expected.tolist(), strict=True)), abs=1e-5)


def test_predict_of_nothing_that_can_be_heard(heard: Path, cli: Callable[..., Said]) -> None:
    broken("zero length", Path("nothing.wav"))
    said = cli("predict", str(heard), "nothing.wav")
    assert (said.code, len(said.err.splitlines())) == (2, 2)
    assert said.err.endswith("none of the files could be read; nothing is predicted\n")
    Path("empty").mkdir()
    assert "empty: holds no sounds, by their names' endings" in one_line(cli("predict", str(heard), "empty"))


@pytest.mark.parametrize("format", ["torch_export", "onnx"])
def test_a_net_of_sounds_is_exported_with_its_front_end(format: str, heard: Path, cli: Callable[..., Said]) -> None:
    """Loaded again and compared by the command itself."""
    said = cli("export", str(heard), "--format", format, "--output", ".")
    assert said.code == 0, said.err
    assert len(list(Path().glob("*.json"))) == 1


def test_what_does_not_hear_is_refused(cli: Callable[..., Said]) -> None:
    for model, missing in (("audio_cnn", "sample_rate"), ("audio_cnn1d", "samples")):
        said = one_line(cli("train", f"model={model}", "data=digits"))
        assert f"model={model} needs {missing}, which data=digits does not have" in said
    assert "needs channels" in one_line(cli("train", "model=lenet5", "data=spoken_digits"))
