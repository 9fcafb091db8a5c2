// What was recorded while a page is open becomes part of its curves.

/** Points that are kept one by one; of more, buckets are asked for. */
const MOST_SINGLE = 800;

/**
 * Add what `/api/v1/series/later` told to a curve.
 * @param {Curve} curve
 * @param {Object} news
 * @returns {boolean} False if the curve must be asked for anew instead.
 */
export function append(curve, news) {
  const last = curve.steps.at(-1) ?? -Infinity;
  const isInOrder = news.is_delta && (news.steps[0] ?? last) >= last;
  const room = curve.width ? Infinity : MOST_SINGLE - curve.steps.length;
  if (!isInOrder || curve.places || news.steps.length > room) return false;
  news.steps.forEach((step, i) => {
    if (curve.width) into(curve, step, news, i);
    else single(curve, step, news, i);
    curve.points += news.counts[i];
  });
  curve.cursor = news.cursor;
  return true;
}

function single(curve, step, news, i) {
  curve.steps.push(step);
  curve.mean.push(news.mean[i]);
  if (news.nonfinite[i]) curve.nonfinite.push([curve.steps.length - 1, news.nonfinite[i]]);
}

function into(curve, step, news, i) {
  const start = Math.floor(step / curve.width) * curve.width;
  let at = curve.steps.length - 1;
  if (curve.steps[at] !== start) {
    at = curve.steps.push(start) - 1;
    curve.mean.push(null);
    curve.minimum.push(null);
    curve.maximum.push(null);
    curve.counts.push(0);
  }
  const finite = news.counts[i] - news.nonfinite[i];
  const before = curve.counts[at] - (curve.nonfinite.find(([place]) => place === at)?.[1] ?? 0);
  if (finite > 0) {
    curve.mean[at] = ((curve.mean[at] ?? 0) * before + news.mean[i] * finite) / (before + finite);
    curve.minimum[at] = Math.min(curve.minimum[at] ?? Infinity, news.minimum[i]);
    curve.maximum[at] = Math.max(curve.maximum[at] ?? -Infinity, news.maximum[i]);
  }
  if (news.nonfinite[i]) countNonfinite(curve, at, news.nonfinite[i]);
  curve.counts[at] += news.counts[i];
}

function countNonfinite(curve, at, more) {
  const known = curve.nonfinite.find(([place]) => place === at);
  if (known) known[1] += more;
  else curve.nonfinite.push([at, more]);
}
