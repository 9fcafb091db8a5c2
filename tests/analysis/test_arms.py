"""What stands for an architecture after a search, and what fresh seeds change about it."""

from research_eval.analysis.arms import choose
from research_eval.analysis.outputs import best_runs

LR = [{"optimizer_params": {"lr": lr}} for lr in (0.1, 0.2, 0.3)]


def search(lab, scores, study="s", configs=LR):
    """Record a trial for each score, and return the runs."""
    return [
        lab.run(value=score, config=config, study=study, phase="search", trial=trial)
        for trial, (score, config) in enumerate(zip(scores, configs, strict=False))
    ]


def test_a_fresh_seed_of_a_loser_does_not_displace_the_winner(lab):
    winner, _ = search(lab, [0.90, 0.89])
    lab.run(value=0.50, seed=1, config=LR[1])
    chosen = choose(lab.evidence(), "moe")
    assert (chosen.runs, chosen.phase) == ((winner,), "search")


def test_fresh_seeds_of_the_winner_of_any_study_confirm_it(lab):
    search(lab, [0.90, 0.89])
    search(lab, [0.95], study="later", configs=LR[2:])
    fresh = [lab.run(value=0.8, seed=seed, config=LR[0]) for seed in (1, 2)]
    chosen = choose(lab.evidence(), "moe")
    assert (chosen.runs, chosen.phase) == (tuple(fresh), "confirm")


def test_what_a_study_confirmed_stands_though_another_one_did_better(lab):
    search(lab, [0.90, 0.89])
    confirmed = lab.run(value=0.7, seed=1, config=LR[1], study="s", phase="confirm")
    assert choose(lab.evidence(), "moe").runs == (confirmed,)


def told(evidence):
    return best_runs.sentences(best_runs.frame(evidence), evidence)


def test_a_better_trial_than_the_confirmed_one_is_not_hidden(lab):
    search(lab, [0.80])
    confirmed = lab.run(value=0.78, seed=1, config=LR[0], study="s", phase="confirm")
    assert told(lab.evidence()) == []
    *_, better = search(lab, [0.95, 0.97], study="later", configs=LR[1:])
    evidence = lab.evidence()
    chosen = choose(evidence, "moe")
    assert (chosen.runs, chosen.overtaken_by) == ((confirmed,), better)
    assert told(evidence) == [
        f"moe stands by what was confirmed; {better} did better by the scores of the search and is "
        "not confirmed: research-eval hpo --confirm 5."
    ]
