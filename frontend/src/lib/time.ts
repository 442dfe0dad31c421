/** Silence and age of a job. */

/** After this long without a word a running job is shown as silent. */
export const STALE_MS = 15_000;

/** Milliseconds since the job last spoke: by the stream, or by the report that the server stored. */
export function silence(
  now: number,
  heardAt: number | undefined,
  reportedAt: string | null | undefined,
  startedAt?: string | null,
): number | null {
  const stored = [reportedAt, startedAt].map((text) => (text ? Date.parse(text) : NaN)).filter(Number.isFinite);
  const times = heardAt === undefined ? stored : [...stored, heardAt];
  return times.length ? Math.max(0, now - Math.max(...times)) : null;
}

/** `2026-03-04 05:06:07` in local time. */
export function stamp(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return '–';
  const date = new Date(typeof time === 'number' ? time * 1000 : time);
  const pad = (value: number) => value.toString().padStart(2, '0');
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export const clock = (time: string | number): string => stamp(time).slice(11);
