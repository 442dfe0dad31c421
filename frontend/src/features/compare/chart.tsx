import { useMemo } from 'react';
import type { CompareAnswer } from '@/api/types';
import { Chart, type ChartLine } from '@/components/chart';
import { alpha, runColor } from '@/lib/colors';
import { points } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { align, ribbon } from '@/lib/series';
import type { XAxis } from '@/lib/url';
import { groupBySeed, lineOf } from './model';

const LABELS: Record<XAxis, string> = { iteration: 'it', images: 'images', device_seconds: 'device s' };
// Runs of one method share its colour; the dash tells them apart.
const DASHES: (number[] | undefined)[] = [undefined, [6, 3], [2, 3], [8, 3, 2, 3]];

/** The primary metric of all runs, never smoothed; seeds of one spec as a mean line and a ribbon of one deviation. */
export function CompareChart({ answer, x }: { answer: CompareAnswer; x: XAxis }) {
  const { key, label } = primaryMetric(answer.jobs[0]?.job.task);
  const drawn = useMemo(() => build(answer, `val/${key}`), [answer, key]);
  const end = Math.max(1, ...drawn.x);
  return (
    <Chart
      title={`${label}, val`}
      fit
      note={drawn.seeds ? 'seeds: mean, ribbon of one deviation' : 'points, not smoothed'}
      {...drawn}
      range={[0, end]}
      height={280}
      format={points}
      xLabel={LABELS[x]}
      empty={drawn.x.length ? undefined : 'no evaluation yet'}
    />
  );
}

function build(answer: CompareAnswer, metric: string) {
  const used = new Map<string, number>();
  const lines: ChartLine[] = [];
  const parts: { x: number[]; y: (number | null)[] }[] = [];
  const bands: { series: [number, number]; fill: string }[] = [];
  let seeds = false;
  for (const group of groupBySeed(answer)) {
    const found = group.members.flatMap((index) => lineOf(answer, index, metric) ?? []);
    if (!found.length) continue;
    const color = runColor(group.methods);
    const order = used.get(color) ?? 0;
    used.set(color, order + 1);
    const look: ChartLine = { label: group.label, color, width: 2, dash: DASHES[order % DASHES.length] };
    if (found.length === 1) {
      lines.push({ ...look, points: true });
      parts.push(found[0]!);
      continue;
    }
    seeds = true;
    const { x, mean, low, high } = ribbon(found);
    const base = lines.length;
    lines.push(look, { label: 'low', color: 'transparent', quiet: true }, { label: 'high', color: 'transparent', quiet: true });
    parts.push({ x, y: mean }, { x, y: low }, { x, y: high });
    bands.push({ series: [base + 3, base + 2], fill: alpha(color, 0.18) });
  }
  return { ...align(parts), lines, bands, seeds };
}
