/** Pure operations on metric series: joining a live tail, rewinding, averaging, stacking, aligning for a chart. */

export interface Line {
  name: string;
  x: number[];
  y: (number | null)[];
  low?: (number | null)[] | null;
  high?: (number | null)[] | null;
  points_total: number;
}
export interface Answer {
  series: Line[];
  names: string[];
  attempts?: Record<string, unknown>[];
}
export interface LogState {
  lines: Record<string, unknown>[];
  next: number;
}

/** Longest tail kept beyond what the server thinned; then the page asks for a newly thinned whole. */
const LONGEST_LOG = 5000;

/** Joins a later answer to an earlier one. Where both have points, the later answer is right: a run that was
 * killed goes on from a checkpoint and writes the points after it again. */
export function joinSeries<T extends Answer>(old: T, tail: Answer): T {
  const byName = new Map(old.series.map((line) => [line.name, line as Line]));
  for (const line of tail.series) {
    const before = byName.get(line.name);
    byName.set(line.name, before ? joinLine(before, line) : line);
  }
  return {
    ...old,
    series: [...byName.values()].sort((a, b) => a.name.localeCompare(b.name)),
    names: [...new Set([...old.names, ...tail.names])].sort(),
    attempts: tail.attempts ?? old.attempts,
  };
}

function joinLine(old: Line, tail: Line): Line {
  const first = tail.x[0];
  if (first === undefined) return old;
  const keep = lowerBound(old.x, first);
  const cut = (part: (number | null)[] | null | undefined, line: Line) => part ?? line.y;
  const envelope = Boolean(old.low || tail.low);
  return {
    name: old.name,
    x: [...old.x.slice(0, keep), ...tail.x],
    y: [...old.y.slice(0, keep), ...tail.y],
    low: envelope ? [...cut(old.low, old).slice(0, keep), ...cut(tail.low, tail)] : null,
    high: envelope ? [...cut(old.high, old).slice(0, keep), ...cut(tail.high, tail)] : null,
    points_total: Math.max(old.points_total, keep + tail.x.length),
  };
}

/** Drops what lies after an iteration, as a rewind does. */
export function rewind(line: Line, iteration: number): Line {
  const keep = lowerBound(line.x, iteration + 1e-9);
  const cut = (part: (number | null)[] | null | undefined) => part?.slice(0, keep) ?? null;
  return { ...line, x: line.x.slice(0, keep), y: line.y.slice(0, keep), low: cut(line.low), high: cut(line.high) };
}

/** First position whose value is at least `wanted` in an ascending list. */
export function lowerBound(sorted: readonly number[], wanted: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Position of the value nearest to `wanted`; -1 in an empty list. */
export function nearest(sorted: readonly number[], wanted: number): number {
  const at = lowerBound(sorted, wanted);
  if (at === 0) return sorted.length ? 0 : -1;
  if (at === sorted.length) return at - 1;
  return sorted[at]! - wanted < wanted - sorted[at - 1]! ? at : at - 1;
}

/** Moving average over the last `window` finite points. A gap (null) stays a gap. */
export function movingAverage(y: readonly (number | null)[], window: number): (number | null)[] {
  const held: number[] = [];
  let sum = 0;
  return y.map((value) => {
    if (value === null) return null;
    held.push(value);
    sum += value;
    if (held.length > window) sum -= held.shift()!;
    return sum / held.length;
  });
}

/** Several lines on one ascending x: undefined where a line has no point (drawn through), null where not finite. */
export function align(lines: readonly { x: readonly number[]; y: readonly (number | null)[] }[]): {
  x: number[];
  ys: (number | null | undefined)[][];
} {
  const x = [...new Set(lines.flatMap((line) => [...line.x]))].sort((a, b) => a - b);
  const at = new Map(x.map((value, index) => [value, index]));
  const ys = lines.map((line) => {
    const column = new Array<number | null | undefined>(x.length).fill(undefined);
    line.x.forEach((value, index) => {
      column[at.get(value)!] = line.y[index];
    });
    return column;
  });
  return { x, ys };
}

/** Cumulative sums over the lines, bottom first, for stacked areas. A missing value counts as zero. */
export function stack(ys: readonly (readonly (number | null | undefined)[])[]): (number | null)[][] {
  const totals = new Array<number>(ys[0]?.length ?? 0).fill(0);
  return ys.map((column) =>
    column.map((value, index) => {
      totals[index] = totals[index]! + (value ?? 0);
      return totals[index]!;
    }),
  );
}

/** Where a line was not finite. */
export const nonFinite = (line: Line): number[] => line.x.filter((_, index) => line.y[index] === null);

export function appendLog(old: LogState, more: LogState): LogState {
  const last = Number(old.lines.at(-1)?.n ?? 0);
  const fresh = more.lines.filter((line) => Number(line.n) > last);
  return { lines: [...old.lines, ...fresh].slice(-LONGEST_LOG), next: Math.max(old.next, more.next) };
}

/** Mean and sample deviation at every x that all lines share, for a ribbon over seeds. */
export function ribbon(lines: readonly Line[]): { x: number[]; mean: number[]; low: number[]; high: number[] } {
  const out = { x: [] as number[], mean: [] as number[], low: [] as number[], high: [] as number[] };
  const maps = lines.map((line) => new Map(line.x.map((value, index) => [value, line.y[index]])));
  for (const x of lines[0]?.x ?? []) {
    const values = maps.map((map) => map.get(x)).filter((value): value is number => value != null);
    if (values.length !== lines.length) continue;
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const spread =
      values.length > 1 ? Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1)) : 0;
    out.x.push(x);
    out.mean.push(mean);
    out.low.push(mean - spread);
    out.high.push(mean + spread);
  }
  return out;
}
