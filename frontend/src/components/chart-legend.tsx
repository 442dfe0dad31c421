import { count, fixed } from '@/lib/format';
import { nearest } from '@/lib/series';
import { useCursorX } from '@/lib/shared-view';

export interface LegendItem {
  label: string;
  color: string;
  dashed: boolean;
  y: readonly (number | null | undefined)[];
}

interface Props {
  x: readonly number[];
  items: LegendItem[];
  format?: (value: number | null | undefined) => string;
  xLabel?: string;
}

/** Names and values: at the page's cursor, or the last ones. */
export function Legend({ x, items, format = (value) => fixed(value, 1), xLabel = 'it' }: Props) {
  const cursor = useCursorX();
  return (
    <span className="legend tabular">
      {items.map((item) => (
        <span key={item.label}>
          <i className={item.dashed ? 'dashed' : ''} style={{ borderColor: item.color.startsWith('--') ? `var(${item.color})` : item.color }} />
          {item.label} <b>{format(valueAt(x, item.y, cursor))}</b>
        </span>
      ))}
      {cursor !== null && <span className="muted">{xLabel} {count(cursor)}</span>}
    </span>
  );
}

/** The value at the nearest x that has one. */
function valueAt(x: readonly number[], y: readonly (number | null | undefined)[], cursor: number | null) {
  const from = cursor === null ? x.length - 1 : nearest(x, cursor);
  for (let distance = 0; distance < x.length; distance += 1) {
    const found = [y[from - distance], y[from + distance]].find((value) => value !== undefined);
    if (found !== undefined) return found;
  }
  return undefined;
}
