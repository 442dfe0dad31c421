/** Numbers as the reader sees them: digits follow the noise, a true minus, units in the text. */

export const MISSING = '–';
const MINUS = '−';

const known = (value: number | null | undefined): value is number => value != null && Number.isFinite(value);

/** A number with a fixed count of decimals and a true minus sign. */
export function fixed(value: number | null | undefined, decimals = 1): string {
  if (!known(value)) return MISSING;
  const text = Math.abs(value).toFixed(decimals);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** Points (0 to 100) with one decimal. */
export const points = (value: number | null | undefined): string => fixed(value, 1);

/** A signed difference: `+1.2`, `−0.4`, `0.0`. */
export function signed(value: number | null | undefined, decimals = 1): string {
  if (!known(value)) return MISSING;
  const text = fixed(value, decimals);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

/** Whole numbers with thousands separators. */
export function count(value: number | null | undefined): string {
  return known(value) ? Math.round(value).toLocaleString('en-US') : MISSING;
}

const significant = (value: number): string => (value >= 100 ? value.toFixed(1) : value.toFixed(value >= 10 ? 1 : 2));

/** `3.23 M` of 3,233,171; `812 k`; `97`. */
export function parameters(value: number | null | undefined): string {
  if (!known(value)) return MISSING;
  if (value >= 1e12) return `${significant(value / 1e12)} T`;
  if (value >= 1e9) return `${significant(value / 1e9)} G`;
  if (value >= 1e6) return `${significant(value / 1e6)} M`;
  if (value >= 1e3) return `${Math.round(value / 1e3)} k`;
  return `${Math.round(value)}`;
}

/** `128.9 G MACs`. */
export const macs = (value: number | null | undefined): string =>
  known(value) ? `${parameters(value)} MACs` : MISSING;

/** Decimal units: `8.1 MB`, as file managers and disks print them. */
export function bytes(value: number | null | undefined): string {
  if (!known(value)) return MISSING;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return unit === 0 ? `${size} B` : `${size.toFixed(1)} ${units[unit]}`;
}

export const milliseconds = (value: number | null | undefined): string =>
  known(value) ? `${value.toFixed(1)} ms` : MISSING;

/** `22 s`, `6 m 20 s`, `3 h 04 m`, `2 d 3 h`. */
export function duration(seconds: number | null | undefined): string {
  if (!known(seconds)) return MISSING;
  const total = Math.max(0, Math.round(seconds));
  const pad = (value: number) => value.toString().padStart(2, '0');
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} m ${pad(total % 60)} s`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${pad(Math.floor((total % 3600) / 60))} m`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

/** A short age: `now`, `22 s ago`, `5 m ago`, `3 h ago`, `2 d ago`. */
export function ago(seconds: number): string {
  const total = Math.max(0, Math.round(seconds));
  if (total < 5) return 'now';
  if (total < 60) return `${total} s ago`;
  if (total < 3600) return `${Math.floor(total / 60)} m ago`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ago`;
  return `${Math.floor(total / 86400)} d ago`;
}

/** The mean over seeds, as precise as its deviation allows: `61.3 ± 0.6 (3 seeds)`, or `61.3 (1 seed)`. */
export function overSeeds(values: readonly number[]): string {
  if (values.length === 0) return MISSING;
  const mean = average(values);
  if (values.length === 1) return `${points(mean)} (1 seed)`;
  const deviation = sampleDeviation(values);
  const decimals = deviation > 0 ? Math.min(2, Math.max(0, -Math.floor(Math.log10(deviation)))) : 1;
  return `${fixed(mean, decimals)} ± ${fixed(deviation, decimals)} (${values.length} seeds)`;
}

export const average = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Sample standard deviation (n - 1). */
export function sampleDeviation(values: readonly number[]): number {
  const mean = average(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

/** A number of unknown magnitude in four significant digits, for tables of loss terms and learning rates. */
export function compact(value: number | null | undefined): string {
  if (!known(value)) return MISSING;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace('-', MINUS).replace('e-', `e${MINUS}`);
  return fixed(value, size >= 100 ? 1 : size >= 1 ? 3 : 4);
}

/** Any spec value on one line. */
export function value(item: unknown): string {
  if (item === null || item === undefined) return 'null';
  return typeof item === 'string' ? item : JSON.stringify(item);
}
