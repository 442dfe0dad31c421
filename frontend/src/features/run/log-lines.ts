/** Where log lines lie on the axis of iterations. */

/** The iteration that a line speaks of (`iteration 20/60: ...`); null when it names none. */
export function iterationOf(text: string): number | null {
  const match = /\bit(?:eration)? (\d[\d,]*)/.exec(text);
  return match ? Number(match[1]!.replaceAll(',', '')) : null;
}

/** Position of the line nearest to an iteration, the first of equals; -1 when no line names one. */
export function nearestLine(iterations: readonly (number | null)[], wanted: number | null): number {
  let best = -1;
  if (wanted === null) return best;
  iterations.forEach((iteration, index) => {
    if (iteration === null) return;
    if (best < 0 || Math.abs(iteration - wanted) < Math.abs(iterations[best]! - wanted)) best = index;
  });
  return best;
}
