/** The inspection report as the page reads it, tolerant of one that is not there yet. */
import type { DatasetInfo } from '@/api/datasets';

export interface Finding {
  code: string;
  message: string;
  hint: string | null;
  severity: 'error' | 'warning';
  split: string | null;
  count: number;
  files: string[];
}
export interface ClassRow {
  id: number;
  name: string;
  color: [number, number, number];
  pixels: Record<string, number>;
  boxes?: Record<string, number>;
  images: Record<string, number>;
}
export interface SplitRow {
  role: string;
  images: number;
  labelled: number;
  pixels: number;
  ignored: number;
  boxes?: number;
}
export interface SizeRow {
  height: number;
  width: number;
  count: number;
}
export interface ObjectRow {
  side: number;
  below: number | null;
  boxes: Record<string, number>;
}
export interface WorstRow {
  file: string;
  errors: number;
  warnings: number;
  codes: string[];
}

const list = <T>(value: unknown): T[] => (Array.isArray(value) ? (value as T[]) : []);

/** Errors first: they stop training. */
export const findingsOf = (dataset: DatasetInfo): Finding[] =>
  list<Finding>(dataset.report.findings).sort((a, b) => Number(a.severity !== 'error') - Number(b.severity !== 'error'));
export const classesOf = (dataset: DatasetInfo): ClassRow[] => list(dataset.report.classes);
export const splitsOf = (dataset: DatasetInfo): SplitRow[] => list(dataset.report.splits);
export const sizesOf = (dataset: DatasetInfo): SizeRow[] => list(dataset.report.sizes);

export const objectSizesOf = (dataset: DatasetInfo): ObjectRow[] => list(dataset.report.object_sizes);
export const worstOf = (dataset: DatasetInfo): WorstRow[] => list(dataset.report.worst_files);

/** `32 to 64` pixels; the last one has no end. */
export const sides = ({ side, below }: ObjectRow): string => (below === null ? `${side} and more` : `${side} to ${below}`);

export type Counted = 'pixels' | 'boxes' | 'images';

/** What a task's labels are counted in. */
export const countedIn = (task: string | null | undefined): Counted =>
  task === 'detection' ? 'boxes' : task === 'classification' ? 'images' : 'pixels';

/** Percent of the labelled (not ignored) pixels, boxes or images of a split that are of a class. */
export function share(row: ClassRow, rows: readonly ClassRow[], role: string, unit: Counted = 'pixels'): number {
  const of = (each: ClassRow) => each[unit]?.[role] ?? 0;
  const all = rows.reduce((sum, each) => sum + of(each), 0);
  return all > 0 ? (100 * of(row)) / all : 0;
}

/** Three significant digits down to 0.001 %: rare classes are what one looks for. */
export function percent(value: number): string {
  if (value === 0) return '0 %';
  if (value < 0.001) return '<0.001 %';
  return `${value < 0.1 ? value.toFixed(3) : value < 10 ? value.toFixed(2) : value.toFixed(1)} %`;
}

/** `367 / 101 / 233` in the order of use. */
export function images(counts: Record<string, number>): string {
  const roles = ['train', 'val', 'test'].filter((role) => role in counts).map((role) => String(counts[role]));
  const extra = counts.unlabelled ? ` + ${counts.unlabelled} unlabelled` : '';
  return roles.length ? roles.join(' / ') + extra : '–';
}
