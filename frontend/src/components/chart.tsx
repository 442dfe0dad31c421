/** uPlot in React: shared cursor, drag to zoom all charts, attempts as thin lines, non-finite values always marked. */
import { useComputedColorScheme } from '@mantine/core';
import { useEffect, useMemo, useRef } from 'react';
import uPlot from 'uplot';
import { useSharedView } from '@/lib/shared-view';
import { drawMarks, ink, type Mark } from './chart-marks';
import { Legend, type LegendItem } from './chart-legend';

export interface ChartLine {
  label: string;
  /** Any CSS colour, or the name of a theme variable (`--ink`). */
  color: string;
  width?: number;
  dash?: number[];
  fill?: string;
  points?: boolean;
  /** No entry in the legend: envelopes and faint raw lines. */
  quiet?: boolean;
}

export interface ChartProps {
  title: string;
  note?: string;
  x: number[];
  ys: (number | null | undefined)[][];
  lines: ChartLine[];
  bands?: uPlot.Band[];
  height: number;
  /** The whole range of x, drawn from the start so that nothing shifts while points arrive. */
  range: [number, number];
  yRange?: [number | null, number | null];
  /** The axis follows what is in view instead of starting at zero: for scores, whose differences are small. */
  fit?: boolean;
  marks?: Mark[];
  /** Values of x where something was not a number. */
  broken?: number[];
  format?: (value: number | null | undefined) => string;
  /** Numbers for the legend when they differ from what is drawn (stacks). */
  legendYs?: (number | null | undefined)[][];
  xLabel?: string;
  empty?: string;
}

const AXIS_FONT = "11px 'Inter Variable', sans-serif";

export function Chart(props: ChartProps) {
  const { x, ys, lines, bands, height } = props;
  const view = useSharedView();
  const scheme = useComputedColorScheme('light');
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ props, view });
  useEffect(() => {
    latest.current = { props, view };
  });

  const data = useMemo(() => [x, ...ys] as uPlot.AlignedData, [x, ys]);
  // What needs a new plot; everything else is only redrawn.
  const shape = JSON.stringify([lines, bands, height, scheme, props.yRange]);

  useEffect(() => {
    const element = holder.current!;
    const options = buildOptions(latest, element);
    const made = new uPlot(options, [[], ...latest.current.props.ys.map(() => [])] as uPlot.AlignedData, element);
    plot.current = made;
    made.setData([latest.current.props.x, ...latest.current.props.ys] as uPlot.AlignedData);
    const resizer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: options.height }));
    resizer.observe(element);
    return () => {
      resizer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  const zoomKey = view.zoom?.join('-') ?? props.range.join('-');
  useEffect(() => {
    latest.current = { props, view };
    plot.current?.setData(data);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- props and view are read through `latest`
  }, [data, zoomKey, view.chosen, props.marks, props.broken]);

  const legend: LegendItem[] = lines.flatMap((line, index) =>
    line.quiet
      ? []
      : [{ label: line.label, color: line.color, dashed: Boolean(line.dash), y: (props.legendYs ?? ys)[index] ?? [] }],
  );
  return (
    <figure className="chart" aria-label={props.title}>
      <figcaption className="row">
        <h2>{props.title}</h2>
        <Legend x={x} items={legend} format={props.format} xLabel={props.xLabel} />
        <span className="grow" />
        {props.note && <span className="muted">{props.note}</span>}
      </figcaption>
      <div className="plot" ref={holder} style={{ height }}>
        {view.zoom && (
          <button type="button" className="pill unzoom" onClick={() => view.setZoom(null)}>
            whole run
          </button>
        )}
        {props.empty && <div className="overlay muted">{props.empty}</div>}
      </div>
    </figure>
  );
}

/** Short enough for the axis: a diverging loss reaches 1e12. */
const tick = (value: number): string =>
  Math.abs(value) >= 1e4 ? value.toExponential(0).replace('e+', 'e') : value.toLocaleString('en-US', { maximumFractionDigits: 6 });

/** Points, with room for the lines; never so near that noise fills the chart. */
function fitted(low: number, high: number): [number, number] {
  const room = Math.max(0.08 * (high - low), (4 - (high - low)) / 2, 0.4);
  return [Math.max(0, low - room), high + room];
}

type Latest = { current: { props: ChartProps; view: ReturnType<typeof useSharedView> } };

function buildOptions(latest: Latest, element: HTMLElement): uPlot.Options {
  const { lines, bands, height, yRange } = latest.current.props;
  const axis = (extra: uPlot.Axis): uPlot.Axis => ({
    stroke: ink(element, '--faint'),
    grid: { stroke: ink(element, '--line'), width: 1 },
    ticks: { show: false },
    font: AXIS_FONT,
    gap: 4,
    ...extra,
  });
  return {
    width: element.clientWidth || 600,
    height,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: true, y: false, setScale: false },
      sync: { key: 'page', scales: ['x', null], setSeries: false },
      focus: { prox: -1 },
    },
    scales: {
      x: { time: false, range: () => latest.current.view.zoom ?? latest.current.props.range },
      y: {
        range: (_plot, low, high) => {
          if (latest.current.props.fit && !yRange && low !== null && high !== null) return fitted(low, high);
          // Zero is the floor of everything that cannot be negative.
          const pad = 0.08 * Math.max(1e-9, (high ?? 1) - Math.min(0, low ?? 0));
          const from = (low ?? 0) < 0 ? low! - pad : 0;
          const to = (high ?? 1) + pad;
          return [yRange?.[0] ?? from, yRange?.[1] ?? to];
        },
      },
    },
    axes: [axis({ size: 24, space: 80 }), axis({ size: 44, space: 32, values: (_plot, ticks) => ticks.map(tick) })],
    bands,
    series: [
      {},
      ...lines.map(
        (line): uPlot.Series => ({
          label: line.label,
          stroke: line.color.startsWith('--') ? ink(element, line.color) : line.color,
          width: line.width ?? 1.5,
          dash: line.dash,
          fill: line.fill,
          points: { show: line.points ?? false, size: 5, fill: line.color },
        }),
      ),
    ],
    hooks: {
      setCursor: [
        (made) => {
          const { left } = made.cursor;
          latest.current.view.cursor.set(left == null || left < 0 ? null : made.posToVal(left, 'x'));
        },
      ],
      setSelect: [
        (made) => {
          const { left, width } = made.select;
          if (width > 4) latest.current.view.setZoom([made.posToVal(left, 'x'), made.posToVal(left + width, 'x')]);
          made.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [
        (made) => {
          let pressed = 0;
          made.over.addEventListener('pointerdown', (event) => (pressed = event.clientX));
          made.over.addEventListener('click', (event) => {
            const { left } = made.cursor;
            if (left != null && Math.abs(event.clientX - pressed) < 4) latest.current.view.choose(made.posToVal(left, 'x'));
          });
          made.over.addEventListener('dblclick', () => latest.current.view.setZoom(null));
        },
      ],
      draw: [
        (made) => drawMarks(made, element, latest.current.props.marks, latest.current.props.broken, latest.current.view.chosen),
      ],
    },
  };
}
