"""Claims end to end: run, stop, go on, judge, and notice what was tampered with. And what is stored holds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Said, one_line

from dl_zoo import reproduce
from dl_zoo.claims import card, provenance, result
from dl_zoo.claims_preflight import check as check_claim
from dl_zoo.errors import UserError

ROOT = Path(__file__).parent.parent
SMALL: dict[str, Any] = {
    "article": "1.2",
    "claim": "A net with a hidden layer tells the digits apart better than one without sums.",
    "source": "made up",
    "reported": "nothing",
    "departs": None,
    "arms": {
        "mlp": {"experiment": "none", "overrides": ["model=mlp", "model.width=32", "optimizer.lr=0.01"]},
        "blind": {"experiment": "none", "overrides": ["model=mlp", "model.width=32", "optimizer.lr=0.0"]},
    },
    "sabotage": {"mlp": {"overrides": ["optimizer.lr=0.0"]}},
    "seeds": [0, 1, 2],
    "calibration": {"seeds": [100], "commit": None},
    "tiers": {
        "smoke": {"overrides": ["trainer=smoke"]},
        "cpu": {"overrides": ["trainer=cpu", "trainer.max_epochs=1", "data.batch_size=128"], "minutes": 0.1},
    },
    "rule": [{"kind": "less", "metric": "test/error", "arm": "mlp", "than": "blind", "by": 0.3}],
    "figure": {"kind": "curves", "metric": "val/loss"},
}


def write_card(id: str = "small", **changes: Any) -> list[str]:
    """A card in a folder of one's own; the words that name that folder."""
    folder = Path("mine/claim")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{id}.yaml").write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return ["--config-dir", "mine"]


@pytest.fixture(autouse=True)
def fresh() -> None:
    for cached in (provenance.file_of, provenance.module_of, provenance._yaml):
        cached.cache_clear()


def test_an_arm_starts_from_another_arms_weights_of_the_same_seed(cli: Callable[..., Said]) -> None:
    kept = {"experiment": "none", "overrides": [*SMALL["arms"]["mlp"]["overrides"], "trainer.max_epochs=0"]}
    cpu = {"overrides": ["trainer=cpu", "data.batch_size=128"], "minutes": 0.1}
    once = {**SMALL["arms"]["mlp"], "overrides": [*SMALL["arms"]["mlp"]["overrides"], "trainer.max_epochs=1"]}
    arms = {"kept": {**kept, "from": "mlp"}, "mlp": once}
    same = [{"kind": "equivalent", "metric": "test/error", "arm": "kept", "than": "mlp", "by": 1e-9}]
    words = write_card(
        arms=arms, sabotage={"kept": {"from": None}}, tiers={**SMALL["tiers"], "cpu": cpu}, rule=same, seeds=[0, 1]
    )
    said = cli("reproduce", "claim=small", *words)
    assert said.code == 0, said
    runs = json.loads(Path("results/claims/small.cpu.json").read_text())["arms"]
    errors = {arm: [run["metrics"]["test/error"] for run in runs[arm]["runs"]] for arm in ("kept", "mlp")}
    assert errors["kept"] == errors["mlp"]
    assert errors["mlp"][0] != errors["mlp"][1]
    assert said.err.index("mlp, seed 0") < said.err.index("kept, seed 0")


def test_a_fold_a_seed() -> None:
    """Seed s has the key at s mod n, in every arm; at tier smoke, whose data may be others, nothing is set."""
    write_card(folds={"trainer.max_epochs": 2}, seeds=[2, 3], figure={"kind": "values", "metric": "test/error"})
    plan = reproduce.plan(card.read("small", ["mine"]), "cpu", [], ["mine"])
    content = reproduce.run_all(plan)
    for arm in plan.arms:
        epochs = [
            yaml.safe_load((plan.folder(arm, s) / "config.yaml").read_text())["trainer"]["max_epochs"] for s in (2, 3)
        ]
        assert epochs == [0, 1]
    untrained, trained = (run["metrics"]["test/error"] for run in content["arms"]["mlp"]["runs"])
    assert trained < untrained
    assert provenance.of_card(plan.card.content, "cpu") != provenance.of_card(SMALL, "cpu")
    write_card(folds={"data.fold": 2}, seeds=[2, 3])
    with pytest.raises(UserError, match=r"claim=small: folds: mlp has no data\.fold"):
        reproduce.plan(card.read("small", ["mine"]), "cpu", [], ["mine"])
    assert reproduce.plan(card.read("small", ["mine"]), "smoke", [], ["mine"])


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ({"data.fold": 1}, "folds.data.fold: must be how many there are, at least 2"),
        ({"data.fold": 2}, "folds: seeds leave folds out or count some more than others; take 2 in a row"),
        ([2], "folds: must be a mapping"),
    ],
)
def test_wrong_folds(folds: Any, said: str) -> None:
    assert said in list(card.mistakes({**SMALL, "folds": folds}))


def test_what_starts_from_a_run_that_diverged_failed_too() -> None:
    id = "small"
    write_card(
        arms={
            "mlp": {
                "experiment": "none",
                "overrides": ["model=mlp", "model.width=32", "optimizer=sgd", "optimizer.lr=1e9"],
            },
            "blind": {**SMALL["arms"]["blind"], "from": "mlp"},
        },
        sabotage={"blind": {"from": None}},
        seeds=[0],
    )
    plan = reproduce.plan(card.read(id, ["mine"]), "cpu", [], ["mine"])
    content = reproduce.carry_out(plan)
    assert {name: arm["runs"][0]["status"] for name, arm in content["arms"].items()} == dict.fromkeys(
        ("mlp", "blind"), "diverged"
    )
    assert content["sabotage"]["blind"]["runs"][0]["status"] == "finished"


def test_an_arm_is_given_the_run_of_another_by_the_key_that_the_card_names() -> None:
    few = ["data=digits", "data.train_items=30", "trainer.max_epochs=1"]
    made = {"experiment": "none", "overrides": ["model=vae", "model.conditional=true", *few]}
    words = ["model=mlp", "regularizer=[synthetic]", "regularizer.synthetic.per_class=2", *few]
    start = {"regularizer.synthetic.source": "made"}
    arms = {
        "made": made,
        "mlp": {"experiment": "none", "overrides": words, "from": start},
        "blind": SMALL["arms"]["blind"],
    }
    own = write_card(arms=arms, sabotage={"mlp": {"overrides": ["model.width=1"]}}, seeds=[0])
    tried = check_claim("small", "cpu", [], ["mine"])
    assert not tried.mistakes
    plan = reproduce.plan(card.read("small", ["mine"]), "cpu", [], ["mine"])
    content = reproduce.carry_out(plan)
    assert [run["status"] for arm in content["arms"].values() for run in arm["runs"]] == ["finished"] * 3
    logged = (plan.folder(next(arm for arm in plan.arms if arm.name == "mlp"), 0) / "train.log").read_text()
    assert re.search(r"synthetic +20 made by runs/claims/small.cpu/made/seed0 beside 30 real", logged)
    write_card(arms={**arms, "blind": {**arms["blind"], "from": start}})
    with pytest.raises(UserError, match=r"from: blind has no regularizer\.synthetic\.source"):
        reproduce.plan(card.read("small", ["mine"]), "cpu", [], ["mine"])
    assert own


def test_runs_over_data_of_two_origins_are_not_judged_together() -> None:
    write_card(seeds=[0], sabotage={"blind": {"overrides": ["optimizer.lr=0.1"]}})
    plan = reproduce.plan(card.read("small", ["mine"]), "smoke", [], ["mine"])
    reproduce.carry_out(plan)
    for arm, origin in zip(plan.arms, ("archive", "made", "made"), strict=True):
        path = plan.folder(arm, 0) / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "data": origin}))
    with pytest.raises(UserError, match=r"two origins \(archive, made\); delete those of one"):
        reproduce.gathered(plan)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"mlp": {"experiment": "none", "from": "mpl"}}, "arms.mlp.from: mpl is no other arm; did you mean mlp?"),
        ({"mlp": {"experiment": "none", "from": "mlp"}}, "arms.mlp.from: mlp is no other arm; did you mean mlp?"),
        (
            {"mlp": {"experiment": "none", "from": "b"}, "b": {"experiment": "none", "from": "blind"}},
            "arms.mlp.from: b itself starts from another arm; name one that starts afresh",
        ),
        (
            {"mlp": {"experiment": "none", "from": {"a.b": "mpl"}}},
            "arms.mlp.from: mpl is no other arm; did you mean mlp?",
        ),
        ({"mlp": {"experiment": "none", "from": {}}}, "arms.mlp.from: must be an arm, or one key and its arm"),
    ],
)  # fmt: skip
def test_an_arm_starts_only_from_one_that_starts_afresh(arms: dict[str, Any], said: str) -> None:
    assert said in list(card.mistakes({**SMALL, "arms": {**SMALL["arms"], **arms}}))


def test_a_claim_is_run_judged_written_and_drawn(cli: Callable[..., Said]) -> None:
    own = write_card()
    forecast = cli("reproduce", "claim=small", "--dry-run", *own)
    assert forecast.code == 0
    assert forecast.out.splitlines()[-1] == "9 runs, about 6 s"
    assert not Path("runs").exists()

    said = cli("reproduce", "claim=small", *own)
    assert said.code == 0, said
    for words in ("CONFIRMED", "made up", "article 1.2", "9 runs", "sabotage   REFUTED", "runs/claims/small.cpu"):
        assert words in said.out
    content = result.read(Path("results/claims/small.cpu.json"))
    assert [run["seed"] for run in content["arms"]["mlp"]["runs"]] == [0, 1, 2]
    assert content["verdict"] == "CONFIRMED"
    assert content["sabotage_verdict"] == "REFUTED"
    assert content["arms"]["mlp"]["runs"][0]["curves"]["val/loss"]
    assert Path("results/claims/small.cpu.png").stat().st_size > 5000
    runs = {path.parent.relative_to("runs/claims/small.cpu") for path in Path("runs/claims").rglob("events*")}
    assert runs == {Path(arm) / f"seed{seed}" for arm in ("mlp", "blind", "sabotage-mlp") for seed in range(3)}

    again = cli("reproduce", "claim=small", *own)  # nothing is left to run
    assert again.code == 0
    assert "  1/9  " in said.err
    assert "/9  " not in again.err
    assert cli("reproduce", "claim=small", "--dry-run", *own).out.startswith("small  done")


@pytest.mark.slow
def test_the_same_claim_gives_the_same_numbers(cli: Callable[..., Said]) -> None:
    own = write_card(seeds=[0], rule=[{"kind": "count", "metric": "test/error", "arm": "mlp", "k": 1, "at_most": 0.5}])
    arms = []
    for place in ("one", "other"):
        Path(place).mkdir()
        before = Path.cwd()
        os.chdir(place)
        assert cli("reproduce", "claim=small", "--config-dir", "../mine").code == 0, own
        arms.append(
            [run["metrics"] for run in result.read(Path("results/claims/small.cpu.json"))["arms"]["mlp"]["runs"]]
        )
        os.chdir(before)
    assert arms[0] == arms[1]


def test_a_killed_claim_goes_on_where_it_was(cli: Callable[..., Said]) -> None:
    """SIGKILL after the first record; the second call runs only what is left, and judges."""
    slow = {**SMALL["tiers"], "cpu": {"overrides": ["trainer=cpu", "trainer.max_epochs=2"], "minutes": 1}}
    own = write_card(tiers=slow)
    words = [sys.executable, "-m", "dl_zoo", "reproduce", "claim=small", *own]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = Path("runs/claims/small.cpu/mlp/seed0/record.json")
    deadline = time.monotonic() + 300  # the machine may be busy
    while time.monotonic() < deadline and "finished" not in (first.read_text() if first.is_file() else ""):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = json.loads(first.read_text())
    said = cli("reproduce", "claim=small", *own)
    assert said.code == 0, said
    assert int(said.err.split("1/")[1].split()[0]) < 9
    assert json.loads(first.read_text()) == kept
    assert result.read(Path("results/claims/small.cpu.json"))["verdict"] == "CONFIRMED"


def test_ctrl_c_saves_and_the_same_command_goes_on(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    own = write_card(seeds=[0, 1], tiers={**SMALL["tiers"], "cpu": {"overrides": ["trainer=cpu"], "minutes": 1}})
    from dl_zoo.tasks.classification import Classification

    measure, calls = Classification.measure, [0]

    def interrupted(self: Any, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 100:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(self, batch)

    monkeypatch.setattr(Classification, "measure", interrupted)
    assert "would be another claim" in one_line(cli("reproduce", "claim=small", "data.batch_size=32", *own))
    said = cli("reproduce", "claim=small", *own)
    assert said.code == 130, said
    assert said.err.splitlines()[-1] == "stopped by SIGINT and saved; the same command goes on"
    record = json.loads(Path("runs/claims/small.cpu/mlp/seed0/record.json").read_text())
    assert record["status"] == "interrupted"
    assert not Path("results").exists()
    plan = reproduce.plan(card.read("small", ["mine"]), "cpu", (), ["mine"])
    assert len(plan.left()) == 6
    assert reproduce.run_one(plan, plan.arms[0], 0).startswith("test/error 0.")
    done = json.loads(Path("runs/claims/small.cpu/mlp/seed0/record.json").read_text())
    assert done["status"] == "finished"
    assert done["metrics"]["epoch"] == 20
    assert done["seconds"] > record["seconds"]


def test_a_run_of_another_configuration_is_set_aside(cli: Callable[..., Said]) -> None:
    assert cli("reproduce", "claim=small", "tier=smoke", *write_card()).code == 0
    arms = {**SMALL["arms"], "mlp": {"experiment": "none", "overrides": ["model=mlp", "model.width=16"]}}
    said = cli("reproduce", "claim=small", "tier=smoke", *write_card(arms=arms))
    assert said.code == 0
    assert said.err.count("came of other code or another configuration") == 2  # the arm and its sabotage
    assert len(list(Path("runs/claims/older").rglob("config.yaml"))) == 2


def test_a_diverged_seed_is_a_result(cli: Callable[..., Said]) -> None:
    arms = {
        **SMALL["arms"],
        "mlp": {"experiment": "none", "overrides": ["model=mlp", "optimizer=sgd", "optimizer.lr=1e30"]},
    }
    said = cli("reproduce", "claim=small", *write_card(arms=arms, seeds=[0, 1]))
    assert said.code == 3, said
    content = result.read(Path("results/claims/small.cpu.json"))
    assert {run["status"] for run in content["arms"]["mlp"]["runs"]} == {"diverged"}
    assert content["verdict"] == "REFUTED"


# ---- what is wrong, told ----------------------------------------------------------------------------------------


def test_check_finds_everything_wrong_with_a_claim_in_one_list(cli: Callable[..., Said]) -> None:
    own = write_card(
        source="",
        rule=[{"kind": "less", "metric": "test/eror", "arm": "mlp", "than": "blind", "by": 0.1}],
        sabotage={},
        calibration={"seeds": [1], "commit": None},
        arms={**SMALL["arms"], "blind": {"experiment": "nonne", "overrides": []}},
    )
    said = cli("check", "claim=small", *own)
    assert said.code == 2
    assert said.err.splitlines() == [
        "dl-zoo: claim=small: no source",
        "dl-zoo: claim=small: arms.blind: there is no experiment nonne; did you mean none?",
        "dl-zoo: claim=small: no sabotage: a check that cannot be seen to fail proves nothing",
        "dl-zoo: claim=small: calibration: seed 1 is judged too (seeds); the rule has seen it",
        "dl-zoo: claim=small: rule 1: arm mlp logs no test/eror; did you mean test/error?",
    ]
    assert not Path("runs").exists()
    none = cli("check", "claim=small", *write_card(rule=[], seeds=[]))
    assert none.err.splitlines() == ["dl-zoo: claim=small: no seeds", "dl-zoo: claim=small: no rule"]
    assert cli("check", "claim=small", *write_card()).code == 0


def test_an_arm_that_does_not_compose_is_named(cli: Callable[..., Said]) -> None:
    own = write_card(sabotage={"mlp": {"overrides": ["optimizr.lr=0"]}})
    said = cli("reproduce", "claim=small", *own)
    assert one_line(said).startswith("dl-zoo: claim=small, sabotage of mlp: optimizr.lr: there is no such key")
    said = cli("check", "claim=small", *own)
    assert one_line(said).startswith("dl-zoo: claim=small: sabotage of mlp: optimizr.lr: there is no such key")


@pytest.fixture
def stored(cli: Callable[..., Said]) -> Path:
    assert cli("reproduce", "claim=small", *write_card(seeds=[0, 1])).code == 0
    return Path("results/claims/small.cpu.json")


def test_a_result_edited_by_hand_is_reported(stored: Path, cli: Callable[..., Said]) -> None:
    assert cli("judge", "small").code == 0
    content = json.loads(stored.read_text())
    content["arms"]["mlp"]["runs"][0]["metrics"]["test/error"] = 0.001
    stored.write_text(json.dumps(content))
    said = cli("judge")
    assert said.code == 3
    assert "small.cpu" in said.out
    assert "does not match its hash: it was edited by hand" in said.err
    checked = cli("check", "claim=small", "--config-dir", "mine")
    assert "edited by hand" in one_line(checked)


def test_judge_says_what_is_stale(stored: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    content = result.read(stored)
    assert provenance.stale(content) == []  # its card is in a folder of one's own
    monkeypatch.setattr(card, "stated", lambda id, dirs=(): content["card"])
    assert provenance.stale(content) == []
    monkeypatch.setattr(provenance, "torch_minor", lambda: "1.0")
    assert provenance.stale(content) == [f"torch {content['environment']['torch']}"]
    monkeypatch.undo()
    monkeypatch.setattr(card, "stated", lambda id, dirs=(): {**content["card"], "rule": []})
    assert provenance.stale(content) == ["card"]


def test_a_stale_result_holds_when_a_seed_gives_the_same_numbers(
    stored: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ("reproduce", "claim=small", "--config-dir", "mine", "--recheck")
    assert cli(*again, "--dry-run").out == "0 runs, about 0 s\n"  # nothing is stale
    before = result.read(stored)
    with monkeypatch.context() as changed:
        changed.setattr(provenance, "of_code", lambda targets: "other")
        changed.setattr(card, "stated", lambda id, dirs=(): before["card"])
        assert provenance.stale(before) == ["code"]
        said = cli(*again)
        assert (said.code, said.out) == (0, "small: the same to the bit\n")
        after = result.read(stored)
        assert provenance.stale(after) == []
        assert cli(*again).out == ""
    assert after["rechecked"]["seed"] == 0
    assert {**after["arms"]["mlp"], "code_hash": ""} == {**before["arms"]["mlp"], "code_hash": ""}
    assert cli("judge", "small").code == 0
    assert [len(list(Path(f"runs/claims/small.cpu{each}/mlp").iterdir())) for each in ("", ".recheck")] == [2, 1]


@pytest.mark.parametrize("part", ["arms", "sabotage"])
def test_a_stale_result_stays_stale_when_a_number_is_another(
    part: str, stored: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = result.read(stored)
    metrics = content[part]["mlp"]["runs"][0]["metrics"]
    metrics["val/loss"] += 1e-12
    stored.write_text(result.spelled(result.sealed({k: v for k, v in content.items() if k != "hash"})))
    before = stored.read_bytes()
    monkeypatch.setattr(provenance, "of_code", lambda targets: "other")
    monkeypatch.setattr(card, "stated", lambda id, dirs=(): content["card"])
    said = cli("reproduce", "claim=small", "--config-dir", "mine", "--recheck")
    assert said.code == 3
    name = "sabotage of mlp" if part == "sabotage" else "mlp"
    assert re.fullmatch(
        rf"small: {name}, seed 0: val/loss is [\d.]+, and was [\d.]+; stale until it is run anew\n", said.out
    )
    assert stored.read_bytes() == before
    monkeypatch.setattr(card, "stated", lambda id, dirs=(): {**content["card"], "seeds": [0]})
    assert "its card was changed since" in cli("reproduce", "claim=small", "--config-dir", "mine", "--recheck").out


def test_a_change_of_code_is_stale_one_of_words_is_not(tmp_path: Path) -> None:
    source = (ROOT / "dl_zoo" / "models" / "mlp.py").read_text(encoding="utf-8")
    trees = []
    for name, text in {
        "as it is": source,
        "other words": source.replace("Multilayer perceptron", "MLP").replace("# (B, width)", "# other"),
        "other code": source.replace("depth: int = 2", "depth: int = 3"),
    }.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        trees.append(provenance.module_of(path).tree)
    assert trees[0] == trees[1] != trees[2]


def test_the_code_of_an_arm_is_what_its_targets_need() -> None:
    mlp = provenance.of_code(["dl_zoo.models.mlp.MLP"])
    assert mlp == provenance.of_code(["dl_zoo.models.mlp.MLP", "torch.optim.Adam"])
    assert mlp != provenance.of_code(["dl_zoo.models.lenet5.LeNet5"])
    assert provenance.file_of("dl_zoo.tasks.losses.contrastive") == provenance.PACKAGE / "tasks" / "losses.py"
    assert provenance.file_of("dl_zoo.run.run") is None


def test_an_inconclusive_claim_says_so_by_its_exit_code(cli: Callable[..., Said]) -> None:
    """One seed has no interval; a sabotage that diverges needs none."""
    rule = [{"kind": "at_most", "metric": "test/error", "arm": "mlp", "value": 0.5}]
    sabotage = {"mlp": {"overrides": ["optimizer=sgd", "optimizer.lr=1e30"]}}
    said = cli("reproduce", "claim=small", *write_card(rule=rule, seeds=[0], sabotage=sabotage))
    assert said.code == 4, said
    assert cli("judge").code == 4


def test_a_sabotage_that_passes_makes_the_claim_worthless(cli: Callable[..., Said]) -> None:
    own = write_card(sabotage={"mlp": {"overrides": ["model.activation=tanh"]}}, seeds=[0, 1])
    said = cli("reproduce", "claim=small", *own)
    assert said.code == 3
    assert "the check cannot fail, so it proves nothing" in said.out


def test_a_rule_changed_after_its_runs_is_no_rule(stored: Path, cli: Callable[..., Said]) -> None:
    easier = [{**SMALL["rule"][0], "by": 0.1}]
    said = cli("reproduce", "claim=small", *write_card(seeds=[0, 1], rule=easier))
    assert said.code == 3
    assert "changed after runs that they judge; choose fresh seeds" in said.out
    assert cli("judge").code == 3
    fresh = cli("reproduce", "claim=small", *write_card(seeds=[5, 6], rule=easier))
    assert fresh.code == 0, fresh


def test_the_result_of_another_claim_is_not_taken(stored: Path, cli: Callable[..., Said]) -> None:
    stored.rename(stored.with_name("c01_spirals.cpu.json"))
    said = cli("judge", "c01_spirals")
    assert said.code == 3
    assert "is the result of small at tier cpu" in said.err


@pytest.mark.parametrize("key", [*result.SHAPE, "missing"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 5])
def test_a_result_of_any_other_shape_is_told_and_never_raises(key: str, value: Any) -> None:
    """Its seal is right, its content is not."""
    run = {"seed": 0, "status": "finished", "metrics": {"test/error": 0.1}, "seconds": 1.0}
    arm = {
        "overrides": [],
        "targets": [],
        "choices": {},
        "code_hash": "",
        "config_hash": "",
        "sources_hash": "",
        "runs": [run],
    }
    whole = {"id": "x", "tier": "cpu", "card": SMALL, "arms": {"mlp": arm}, "sabotage": {}, "rule_is_older": True}
    whole |= {"environment": dict.fromkeys(("torch", "device", "machine"), ""), "seconds": 1.0}
    whole |= dict.fromkeys(("commit", "date", "command"), "")
    broken = {**whole, key: value}
    broken = {k: v for k, v in broken.items() if k != "hash"}
    path = Path("x.cpu.json")
    path.write_text(json.dumps({**broken, "hash": result.seal(broken)}))
    with suppress(UserError):
        content = result.read(path)
        assert result.judged(content).verdict == "ERROR"  # one seed of three
        provenance.stale(content)


def test_what_would_make_other_numbers_is_refused(cli: Callable[..., Said]) -> None:
    for word in ("optimizer.lr=1", "trainer=smoke", "trainer.accelerator=cpu", "logger=none", "seed=3"):
        assert f"{word}: would be another claim" in one_line(cli("reproduce", "claim=small", word, *write_card()))
    if not torch.cuda.is_available():
        said = cli("reproduce", "claim=c01_threshold_xor", "tier=cuda")
        assert said.code == 2
        assert "there is no CUDA device here" in said.err.splitlines()[-1]


def test_a_place_that_cannot_be_written_is_one_line_and_loses_nothing(cli: Callable[..., Said]) -> None:
    own = write_card(seeds=[0])
    Path("results").write_text("a file")
    said = cli("reproduce", "claim=small", *own)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("dl-zoo: results")
    Path("results").unlink()
    again = cli("reproduce", "claim=small", *own)
    assert again.code == 3  # one seed is not enough to see the sabotage fail
    assert not re.search(r"^ +\d/3  ", again.err, re.MULTILINE)  # nothing is run again


def test_one_process_a_claim(cli: Callable[..., Said]) -> None:
    from dl_zoo import folder

    Path("runs/claims/small.cpu").mkdir(parents=True)
    with folder.owned(Path("runs/claims/small.cpu")):
        assert "in use by another process" in cli("reproduce", "claim=small", *write_card()).err.splitlines()[-1]


def test_judge_without_results_says_where_they_come_from(cli: Callable[..., Said]) -> None:
    assert "dl-zoo reproduce claim=" in one_line(cli("judge"))


# ---- every card -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", card.ids())
def test_every_arm_of_every_card_runs(id: str) -> None:
    """Tier smoke: the arms run and log what the rules ask for; the sabotage is composed."""
    plan = reproduce.plan(card.read(id), "smoke", ["logger=none"])
    content = reproduce.carry_out(replace(plan, arms=[arm for arm in plan.arms if not arm.broken]))
    assert not list(reproduce.without_metrics(plan.card, content))


def test_a_tier_that_a_card_lacks_is_named() -> None:
    with pytest.raises(UserError, match="has the tiers smoke, cpu, cuda"):
        reproduce.plan(card.read(card.ids()[0]), "long")
