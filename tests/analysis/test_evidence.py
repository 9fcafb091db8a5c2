"""Which runs count, which do not, and that it is said."""

import math

import pytest

from research_eval.analysis.arms import budgets, choose, choose_all
from research_eval.errors import ConfigError, FilterError, StoreError

LR = ({"optimizer_params": {"lr": 0.1}}, {"optimizer_params": {"lr": 0.2}})


def reasons(evidence):
    return [str(each) for each in evidence.left_out]


def test_the_data_sets_of_the_latest_project_are_meant(lab):
    lab.run(dataset_name="imdb", project="old")
    lab.run(dataset_name="parity", project="new")
    assert lab.evidence().dataset == "parity"
    assert lab.evidence(datasets=("imdb",)).dataset == "imdb"
    assert lab.evidence(project="old").dataset == "imdb"


def test_a_study_brings_its_data_sets_of_whatever_project(lab):
    lab.run(dataset_name="imdb", project="old", study="s")
    lab.run(dataset_name="parity", project="new")
    assert lab.evidence(study="s").dataset == "imdb"
    assert lab.evidence(study="s", project="old").dataset == "imdb"
    with pytest.raises(ConfigError, match="of the study 's' belongs to the project 'new'"):
        lab.evidence(study="s", project="new")


def test_a_tracked_run_says_its_data_and_model_in_its_settings(lab):
    nothing = {"model_type": None, "dataset_name": None, "config_hash": None, "data_hash": None}
    for seed in range(2):
        settings = f'{{"dataset_name": "mine", "lr": 1, "seed": {seed}}}'
        lab.run(seed=seed, full_config_json=settings, experiment_name="script", **nothing)
    evidence = lab.evidence()
    assert (evidence.dataset, evidence.arms) == ("mine", ("script",))
    assert choose(evidence, "script").seeds == (0, 1)  # one configuration, whatever its seed


def test_the_metric_is_that_of_the_task_and_its_direction_that_of_the_dictionary(lab):
    lab.run(value=None, metrics={"final_val_loss": 2.0})
    question = lab.evidence().question
    assert (question.metric, question.direction) == ("final_val_loss", "min")
    lab.run(value=0.5)
    question = lab.evidence().question
    assert (question.metric, question.direction) == ("final_val_f1", "max")
    assert question.test_metric == "final_test_f1"


def test_a_metric_that_is_not_ours_needs_its_direction(lab):
    lab.run(metrics={"score": 3.0})
    with pytest.raises(ConfigError, match="which way is score better"):
        lab.evidence(goal="score")
    assert lab.evidence(goal="score:min").question.sign == -1
    with pytest.raises(ConfigError, match="of final_val_f1 better is max"):
        lab.evidence(goal="final_val_f1:min")


def test_a_metric_that_nobody_recorded_is_named_with_those_there_are(lab):
    lab.run()
    with pytest.raises(ConfigError, match=r"no run recorded 'final_val_acc'.*final_val_f1"):
        lab.evidence(goal="final_val_acc")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"datasets": ("party",)}, "no run has the data set 'party'.*'parity'"),
        ({"arms": ("meo",)}, "no run has the architecture 'meo'.*'moe'"),
        ({"candidate": "mine"}, "no run has the architecture 'mine'"),
        ({"baselines": ("mine",)}, "no run has the architecture 'mine'"),
        ({"study": "s"}, "no run has the study 's'"),
        ({"project": "p"}, "no run has the project 'p'"),
        ({"filter": "seed > 5"}, "no run on parity meets the conditions"),
    ],
)
def test_a_name_that_means_nothing_is_an_error(lab, request_, told):
    lab.run()
    with pytest.raises(ConfigError, match=told):
        lab.evidence(**request_)


def test_a_filter_that_cannot_be_read_is_an_error(lab):
    lab.run()
    with pytest.raises(FilterError):
        lab.evidence(filter="seed >")


def test_no_runs_is_an_error_that_says_what_to_do(lab):
    with pytest.raises(StoreError, match="record some first"):
        lab.evidence()


def test_code_data_and_trash_are_left_out_and_counted(lab):
    lab.run(seed=1, code_hash="old")
    kept = lab.seeds("moe", [0.5, 0.6, 0.7])
    lab.run(seed=4, data_hash="other")
    lab.store.delete([lab.run(seed=5)])
    evidence = lab.evidence()
    assert list(evidence.runs) == kept
    assert reasons(evidence) == [
        "1 run left out: in the trash (research-eval runs list --deleted)",
        "1 run left out: other data under the same name (other) "
        "(--filter 'data_hash == \"other\"')",
        "1 run left out: made by older code (--any-code pools them)",
    ]
    assert len(lab.evidence(any_code=True).runs) == 4


def test_another_router_is_not_other_code(lab):
    for router in ("softmax", "sigmoid"):
        lab.run(config={"model_params": {"router": router}}, code_hash=f"code of {router}")
    assert len(lab.evidence().runs) == 2


def test_evaluations_of_a_run_are_not_runs_of_an_architecture(lab):
    parent = lab.run()
    lab.run(run_type="evaluation", parent=parent, value=0.1)
    evidence = lab.evidence()
    assert list(evidence.runs) == [parent]
    assert [each.parent for each in evidence.evaluations] == [parent]


def test_data_that_was_only_evaluated_on_is_no_data_set_of_runs(lab):
    lab.run(run_type="evaluation", parent=lab.run(), dataset_name="another")
    assert lab.evidence().dataset == "parity"
    with pytest.raises(ConfigError, match="no run has the data set 'another'"):
        lab.evidence(datasets=("another",))


def test_a_filter_that_only_evaluations_meet_finds_no_runs(lab):
    lab.run(run_type="evaluation", parent=lab.run(), seed=7)
    with pytest.raises(ConfigError, match="no run on parity meets the conditions"):
        lab.evidence(filter="seed == 7")


def test_runs_without_the_metric_are_left_out(lab):
    lab.run(value=None)
    lab.run(seed=1)
    assert reasons(lab.evidence()) == ["1 run left out: without final_val_f1"]


def test_what_became_of_a_run_is_told_apart(lab):
    scores = {"COMPLETED": 0.5, "DIVERGED": 0.4, "FAILED": 0.4, "PRUNED": 0.4, "RUNNING": 0.4}
    for seed, (status, value) in enumerate(scores.items()):
        lab.run(value=value, seed=seed, status=status)
    lab.run(value=math.nan, seed=9)
    table = lab.evidence().table
    assert list(table["outcome"]) == ["ok", "failed", "failed", "pruned", "open", "failed"]
    assert table["value"].notna().sum() == 1


@pytest.mark.parametrize(("metric", "worst"), [("final_val_f1", 0.5), ("final_val_loss", 3.0)])
def test_a_failed_run_may_count_as_the_worst_score(lab, metric, worst):
    for seed, (f1, loss) in enumerate([(0.5, 3.0), (0.9, 1.0)]):
        lab.run(value=f1, seed=seed, metrics={"final_val_loss": loss})
    lab.run(seed=5, status="DIVERGED")
    table = lab.evidence(goal=metric, failed_as="worst").table
    assert table["value"].iloc[-1] == worst


# ---------------------------------------------------------------------------------- arms


def test_the_best_mean_stands_for_an_arm_not_the_luckiest_seed(lab):
    lab.seeds("moe", [0.9, 0.1], config=LR[0])
    best = lab.seeds("moe", [0.6, 0.7], config=LR[1])
    chosen = choose(lab.evidence(), "moe")
    assert (chosen.runs, chosen.tried, chosen.phase) == (tuple(best), 2, "search")


def test_the_lowest_loss_stands_for_an_arm(lab):
    lab.run(value=None, metrics={"final_val_loss": 2.0}, config=LR[0])
    best = lab.run(value=None, metrics={"final_val_loss": 1.0}, config=LR[1])
    assert choose(lab.evidence(), "moe").runs == (best,)


def test_confirmed_runs_stand_for_an_arm_if_there_are_any(lab):
    lab.run(value=0.9, config=LR[0], study="s", phase="search", trial=0)
    lab.run(value=0.8, config=LR[1], study="s", phase="search", trial=1)
    confirmed = [lab.run(value=0.7, seed=s, config=LR[0], phase="confirm") for s in (5, 6)]
    evidence = lab.evidence()
    chosen = choose(evidence, "moe")
    assert (chosen.runs, chosen.phase, chosen.tried) == (tuple(confirmed), "confirm", 2)
    assert budgets(evidence)["moe"].runs == 2


def test_running_a_winner_on_fresh_seeds_confirms_it(lab):
    lab.run(value=0.9, config=LR[0], study="s", phase="search", trial=0, seed=0)
    lab.run(value=0.9, config=LR[0], seed=0)  # the same seed again is no news
    fresh = [lab.run(value=0.8, config=LR[0], seed=seed) for seed in (1, 2)]
    assert choose(lab.evidence(), "moe").runs == tuple(fresh)


def test_failed_seeds_are_counted_as_begun(lab):
    lab.seeds("moe", [0.5, 0.6])
    lab.run(seed=2, status="FAILED")
    chosen = choose(lab.evidence(), "moe")
    assert (len(chosen.values), chosen.started) == (2, 3)


def test_an_arm_without_a_score_is_not_among_the_chosen(lab):
    lab.run("moe")
    lab.run("dense", status="FAILED")
    evidence = lab.evidence()
    assert evidence.arms == ("dense", "moe")
    assert list(choose_all(evidence)) == ["moe"]


def test_the_candidate_comes_first(lab):
    for arm in ("dense", "goe", "moe"):
        lab.run(arm)
    assert lab.evidence(candidate="moe", baselines=("goe",)).arms == ("moe", "goe", "dense")


def test_logarithmic_scales_are_read_from_the_recorded_schema(lab):
    lab.run()
    evidence = lab.evidence()
    assert evidence.is_log("optimizer_params.lr")
    assert not evidence.is_log("model_params.top_k")
    assert evidence.knobs("moe")["model_params.top_k"]["options"] == [1, 2, 4]


def test_runs_without_a_schema_have_no_ranges(lab):
    lab.run(config_schema_json=None)
    assert lab.evidence().knobs("moe") == {}
