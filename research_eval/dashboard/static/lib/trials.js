// The trials of a study, as its page looks at them: one objective, some architectures.

import { number, onPage, state } from "./base.js";

const UNSUCCESSFUL = ["PRUNED", "FAILED", "DIVERGED", "COLLAPSED", "LOST"];
const OTHER = "#5b6168";

export class Trials {
  /**
   * @param {Object} study As the API describes it.
   * @param {Object<string, string>} palette Colours by architecture.
   */
  constructor(study, palette) {
    this.study = study;
    this.palette = palette;
  }

  /** The objective that is looked at; its number stands in the address. */
  get place() {
    return Math.min(Number(state("objective")) || 0, this.study.objectives.length - 1);
  }

  get objective() {
    return this.study.objectives[this.place];
  }

  get isLog() {
    return state("log") === "1";
  }

  get arms() {
    return Object.keys(this.study.spaces);
  }

  /** The trials that are looked at. */
  get shown() {
    const hides = state("all") !== "1";
    return this.study.trials.filter(
      (trial) =>
        (!state("arm") || trial.arm === state("arm")) &&
        !(hides && UNSUCCESSFUL.includes(trial.state)),
    );
  }

  /** What is searched: a range for each dotted path. */
  get knobs() {
    const arms = state("arm") ? [state("arm")] : this.arms;
    return new Map(arms.flatMap((arm) => Object.entries(this.study.spaces[arm] ?? {})));
  }

  isLogKnob(path) {
    return this.knobs.get(path)?.kind === "LogUniform";
  }

  valueOf(trial) {
    const value = trial.values[this.place];
    return typeof value === "number" ? value : NaN;
  }

  isDone(trial) {
    return trial.state === "COMPLETED" && Number.isFinite(this.valueOf(trial));
  }

  isBetter(value, other) {
    return this.objective.direction === "max" ? value > other : value < other;
  }

  /** Best first; trials without a value last. */
  ranked(trials) {
    const sign = this.objective.direction === "max" ? -1 : 1;
    const key = (trial) =>
      Number.isFinite(this.valueOf(trial)) ? sign * this.valueOf(trial) : Infinity;
    return [...trials].sort((a, b) => key(a) - key(b) || a.number - b.number);
  }

  colourOfArm(arm) {
    return onPage(this.palette[arm] ?? OTHER);
  }

  /** How a trial is marked in every picture. */
  markOf(trial) {
    const broken = trial.is_feasible ? "" : ", breaks a constraint";
    return {
      colour: this.colourOfArm(trial.arm),
      title:
        `trial ${trial.number}, ${trial.arm}, ${trial.state.toLowerCase()}: ` +
        `${trial.values.map(number).join(", ")}${broken}`,
      href: trial.runs.length ? `/runs/${encodeURIComponent(trial.runs[0])}` : null,
      isHollow: !this.isDone(trial),
    };
  }
}
