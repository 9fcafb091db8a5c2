"""Each finding: told where its number says so, and only there."""

import json

import pytest

from research_eval.explaining import RULES

from .findings import found, line, require_parses

SCORES = {"weak": 0.5, "strong": 0.9}

EVEN = {"tokens_seen": 1000.0, "flops_per_token": 100.0, "active_param_count": 100.0}
LABELS = ("even", "odd", "both")


def both(weak, strong=None):
    """Return what a case records of each side."""
    return {"weak": weak, "strong": strong or {}}


# Of each finding: what is recorded where it speaks, and where its number is just too small.
CASES = {
    "different_data": (both({"data_hash": "other", "params": {"dataset_params.seq_len": 9}}), {}),
    "other_code": (both({"code_hash": "older"}), {}),
    "other_settings": (both({"params": {"batch_size": 64}}), {}),
    "failures": (both({"fails": 1}), both({"fails": 1}, {"fails": 1})),
    "fewer_tokens": (
        both({"metrics": {"tokens_seen": 980.0}}, {"metrics": {"tokens_seen": 1000.0}}),
        both({"metrics": {"tokens_seen": 995.0}}, {"metrics": {"tokens_seen": 1000.0}}),
    ),
    "lower_cost": (
        both({"metrics": {"flops_per_token": 98.0}}, {"metrics": {"flops_per_token": 100.0}}),
        both({"metrics": {"flops_per_token": 99.5}}, {"metrics": {"flops_per_token": 100.0}}),
    ),
    "still_improving": (
        both({"curves": {"val_f1": line(0.2, 0.5)}}, {"curves": {"val_f1": line(0.9, 0.9)}}),
        both({"curves": {"val_f1": line(0.4, 0.5)}}, {"curves": {"val_f1": line(0.9, 0.9)}}),
    ),
    "learned_less": (
        both({"metrics": {"train_loss": 0.62}}, {"metrics": {"train_loss": 0.5}}),
        both({"metrics": {"train_loss": 0.58}}, {"metrics": {"train_loss": 0.5}}),
    ),
    "overfitting": (
        both(
            {"metrics": {"train_loss": 0.1, "last_val_loss": 0.5}},
            {"metrics": {"train_loss": 0.1, "last_val_loss": 0.2}},
        ),
        both(
            {"metrics": {"train_loss": 0.1, "last_val_loss": 0.28}},
            {"metrics": {"train_loss": 0.1, "last_val_loss": 0.2}},
        ),
    ),
    "setbacks": (
        both({"curves": {"train_loss": {**line(2, 1, 50), **line(1, 1.6, 100)}}}),
        both({"curves": {"train_loss": line(2, 1, 100)}}),
    ),
    "clipping": (
        both({"curves": {"grad_norm": line(3, 2)}}, {"curves": {"grad_norm": line(0.5, 0.5)}}),
        both({"curves": {"grad_norm": line(1.4, 0.5)}}, {"curves": {"grad_norm": line(0.5, 0.5)}}),
    ),
    "lr_at_edge": (
        both(
            {"params": {"optimizer_params.lr": 0.1}, "rates": (0.001, 0.01)},
            {"model_type": "dense"},
        ),
        both(
            {"params": {"optimizer_params.lr": 0.01}, "rates": (0.001, 0.1)},
            {"model_type": "dense"},
        ),
    ),
    "better_on_record": (
        both({"others": (0.7,)}, {"model_type": "dense"}),
        both({"others": (0.53,)}, {"model_type": "dense"}),
    ),
    "tuned_less": (
        both({}, {"model_type": "dense", "others": (0.1, 0.2, 0.3)}),
        both({}, {"model_type": "dense", "others": (0.1,)}),
    ),
    "router_gradient": (
        both({"curves": {"train_router_grad_norm": line(1e-5, 1e-5), "grad_norm": line(0.5, 0.5)}}),
        both({"curves": {"train_router_grad_norm": line(0.01, 0.01), "grad_norm": line(0.5, 0.5)}}),
    ),
    "router_entropy": (
        both({"metrics": {"val_router_entropy_layer0": 0.97, "train_router_grad_norm": 0.1}}),
        both({"metrics": {"val_router_entropy_layer0": 0.94, "train_router_grad_norm": 0.1}}),
    ),
    "routing_worth": (
        both({"metrics": {"val_router_entropy_layer0": 0.5}, "cost": (0.01, -0.01, 0.03)}),
        both({"metrics": {"val_router_entropy_layer0": 0.5}, "cost": (0.02, 0.01, 0.03)}),
    ),
    "collapse": (
        both({"flags": {"routing_collapse": "layer 0"}}),
        both({"flags": {"routing_collapse": "layer 0"}}, {"flags": {"routing_collapse": "too"}}),
    ),
    "dead_experts": (
        both({"metrics": {"val_dead_experts_layer0": 1.0, "val_dead_experts_layer1": 2.0}}),
        both({"metrics": {"val_dead_experts_layer0": 0.0}}),
    ),
    "dropped_tokens": (
        both({"metrics": {"train_drop_rate_layer0": 0.06}}),
        both({"metrics": {"train_drop_rate_layer0": 0.04}}),
    ),
    "worst_classes": (
        both({"labels": (0.8, 0.1, 0.8)}, {"labels": (0.9, 0.9, 0.9)}),
        both({"labels": (0.5, 0.5, 0.5)}, {"labels": (0.9, 0.9, 0.9)}),
    ),
    "worst_domains": (
        both({"domains": (0.8, 0.1, 0.8)}, {"domains": (0.9, 0.9, 0.9)}),
        both({"domains": (0.5, 0.5, 0.5)}, {"domains": (0.9, 0.9, 0.9)}),
    ),
}
ELSEWHERE = {"seed_noise", "one_seed"}
"""Of several seeds: test_explaining.py."""


def record(lab, name, *, fails=0, others=(), rates=(), cost=None, **more):
    """Record a side, and what else a case says of it."""
    parts = {by: more.pop(by, ()) for by in ("labels", "domains")}
    model = more.pop("model_type", "moe")
    more["params"] = {**more.get("params", {}), "model_type": model}
    more["metrics"] = {**EVEN, "final_val_f1": SCORES[name], **more.get("metrics", {})}
    run = lab.run(name, **more)
    for seed in range(fails):
        lab.run(name, seed=7 + seed, status="FAILED", error="boom", params=more["params"])
    for place, score in enumerate(others):
        lab.run(f"{name} {place}", {"final_val_f1": score}, params={"model_type": model})
    for rate in rates:
        params = {"optimizer_params.lr": rate}
        lab.run(f"{name} {rate}", {"final_val_f1": 0.1}, params=params)
    if cost:
        ends = ("", "_low", "_high")
        costs = {f"eval_routing_cost_f1{e}": v for e, v in zip(ends, cost, strict=True)}
        lab.evaluation(run, {**costs, "eval_rows": 100.0}, routing="random")
    for (by, values), score in zip(parts.items(), ("f1", "acc"), strict=True):
        one = by.removesuffix("s")
        scores = {f"eval_{score}_{one}{i}": value for i, value in enumerate(values)}
        rows = {f"eval_rows_{one}{i}": 10.0 for i in range(len(values))}
        if values:
            lab.evaluation(run, scores | rows, names=LABELS)


def test_every_finding_is_tried():
    assert CASES.keys() | ELSEWHERE == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", CASES)
def test_it_is_told_with_commands_that_parse(lab, name):
    for side, own in CASES[name][0].items():
        record(lab, side, **own)
    explanation = lab.explain()
    told = found(explanation, name)
    assert told, [each.rule.name for each in explanation.findings]
    assert told.side in ("", "weak")
    assert told.finding.strength >= 1 or told.rule.is_premise
    assert told.finding.commands
    for command in told.finding.commands:
        require_parses(command.text("some.db"))
    for lack in explanation.lacks:
        for command in lack.commands:
            require_parses(command.text())


@pytest.mark.parametrize("name", [name for name, (_, small) in CASES.items() if small])
def test_it_is_not_told_below_its_threshold(lab, name):
    for side, own in CASES[name][1].items():
        record(lab, side, **own)
    assert not found(lab.explain(), name)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("different_data", "other_code")])
def test_it_is_not_told_of_two_that_are_alike(lab, name):
    own = CASES[name][0]["weak"]
    if name in ("tuned_less", "better_on_record", "other_settings"):
        own = {}
    for side in SCORES:
        record(lab, side, **own)
    assert not found(lab.explain(), name)


def test_what_holds_back_the_one_that_is_ahead_stands_apart(lab):
    record(lab, "weak", metrics={"tokens_seen": 1000.0})
    record(lab, "strong", metrics={"tokens_seen": 500.0, "val_dead_experts_layer0": 3.0})
    told = lab.explain().findings
    assert {each.rule.name: each.bearing.name for each in told} == {
        "fewer_tokens": "DESPITE",
        "dead_experts": "DESPITE",
    }


def test_what_tokens_are_worth_is_read_from_the_curve_of_the_other(lab):
    curves = {"val_f1": line(0.0, 0.9), "tokens_seen": line(0, 1000)}
    record(lab, "weak", metrics={"tokens_seen": 500.0})
    record(lab, "strong", curves=curves)
    told = found(lab.explain(), "fewer_tokens")
    assert told.finding.effect == pytest.approx(0.45, abs=1e-6)  # it had 0.45 at 500 tokens
    assert told.share == pytest.approx(0.45 / 0.4)


def test_tokens_that_the_curve_says_did_not_matter_are_left_out(lab):
    curves = {"val_f1": line(0.89, 0.9), "tokens_seen": line(0, 1000)}
    record(lab, "weak", metrics={"tokens_seen": 500.0})
    record(lab, "strong", curves=curves)
    assert not found(lab.explain(), "fewer_tokens")


def test_the_parts_of_the_classes_add_up_to_the_difference(lab):
    record(lab, "weak", labels=(0.8, 0.1, 0.6))
    record(lab, "strong", labels=(0.9, 0.9, 0.9))
    told = found(lab.explain(), "worst_classes").finding
    assert told.numbers == {"odd": pytest.approx(0.8 / 3)}
    assert told.effect == pytest.approx(0.4 * 0.8 / 1.2)  # its share of the scores' difference
    assert "odd (f1 0.1 against 0.9, 10 rows)" in told.sentence


def test_classes_are_compared_on_one_split_only(lab):
    weak, strong = (lab.run(name, {"final_val_f1": score}) for name, score in SCORES.items())
    lab.evaluation(weak, {"eval_f1_label0": 0.1, "eval_rows_label0": 10.0}, split="test")
    lab.evaluation(strong, {"eval_f1_label0": 0.9, "eval_rows_label0": 10.0})
    explanation = lab.explain()
    assert not found(explanation, "worst_classes")
    asked = [command.text() for lack in explanation.lacks for command in lack.commands]
    assert f"research-eval evaluate {weak} --split validation" in asked


def test_an_early_stop_is_lifted_with_the_steps_that_were_taken(lab):
    patience = {"training_params.early_stopping_patience": 3}
    record(lab, "weak", metrics={"tokens_seen": 250.0}, params=patience)
    record(lab, "strong")
    commands = found(lab.explain(), "fewer_tokens").finding.commands
    assert "training_params.max_steps=400" in commands[-1].words
    assert "training_params.early_stopping_patience=null" in commands[-1].words


def test_the_range_of_a_study_counts_and_not_what_it_happened_to_try(lab):
    knob = {"kind": "LogUniform", "low": 1e-4, "high": 1.0}
    lab.store.save_study("s", json.dumps({"spaces": {"moe": {"optimizer_params.lr": knob}}}))
    record(lab, "strong", model_type="dense")
    for rate, score in ((0.1, 0.5), (0.01, 0.3), (0.001, 0.2)):
        params = {"optimizer_params.lr": rate}
        lab.run("weak" if rate == 0.1 else str(rate), {"final_val_f1": score}, params=params,
                study="s", trial=0, phase="search")  # fmt: skip
    assert not found(lab.explain(), "lr_at_edge")


def test_a_gain_that_seed_noise_hides_has_no_worth(lab):
    for seed, score in enumerate((0.5, 0.52, 0.48)):
        lab.run("weak", {"final_val_f1": score, "tokens_seen": 500.0}, seed=seed)
    for seed, (middle, score) in enumerate(((0.1, 0.9), (0.9, 0.92), (0.9, 0.88))):
        values = {"val_f1": {50: middle, 100: score}, "tokens_seen": line(0, 1000)}
        lab.run("strong", {"final_val_f1": score}, seed=seed, curves=values)
    explanation = lab.explain()
    assert explanation.pair.is_shown
    assert found(explanation, "fewer_tokens").finding.effect is None  # 0.27 gained, by seeds 1.1


def test_a_last_quarter_within_seed_noise_is_no_improvement(lab):
    for seed, (score, last) in enumerate(((0.5, 0.0), (0.52, 0.6), (0.48, 0.45))):
        lab.run("weak", {"final_val_f1": score}, seed=seed, curves={"val_f1": line(last, score)})
    for seed, score in enumerate((0.9, 0.91, 0.92)):
        lab.run("strong", {"final_val_f1": score}, seed=seed, curves={"val_f1": line(score, score)})
    assert not found(lab.explain(), "still_improving")


def test_a_router_whose_decisions_are_worth_something_is_not_called_undecided(lab):
    routed = {"val_router_entropy_layer0": 0.99, "train_router_grad_norm": 0.1}
    record(lab, "weak", metrics=routed, cost=(0.3, 0.2, 0.4))
    record(lab, "strong")
    assert not found(lab.explain(), "router_entropy")


def test_classes_of_few_rows_that_differ_by_chance_are_no_finding(lab):
    record(lab, "weak", labels=(0.8, 0.75, 0.85))
    record(lab, "strong", labels=(0.8, 0.85, 0.85))  # one row of ten
    assert not found(lab.explain(), "worst_classes")


@pytest.mark.parametrize(("flagged", "is_told"), [((1, 0, 0), False), ((1, 1, 1), True)])
def test_a_flag_counts_if_it_is_more_frequent_than_by_chance(lab, flagged, is_told):
    for seed, is_flagged in enumerate(flagged):
        flags = {"routing_collapse": "layer 0"} if is_flagged else {}
        lab.run("weak", {"final_val_f1": 0.5 + seed / 100}, seed=seed, flags=flags)
        lab.run("strong", {"final_val_f1": 0.9 + seed / 100}, seed=seed, params={"epochs": 9})
    assert bool(found(lab.explain(), "collapse")) is is_told


def test_one_run_that_failed_of_three_is_no_finding(lab):
    lab.seeds("weak", [0.5, 0.51])
    lab.run("weak", seed=2, status="FAILED", error="boom")
    lab.seeds("strong", [0.9, 0.91, 0.92])
    assert not found(lab.explain(), "failures")
