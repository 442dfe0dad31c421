import { useQuery } from '@tanstack/react-query';
import { metricsQuery } from '@/api/jobs';
import { Chart } from '@/components/chart';
import { Empty } from '@/components/command';
import { runColor } from '@/lib/colors';
import { fixed } from '@/lib/format';
import { align } from '@/lib/series';
import { useAttemptMarks } from './charts';
import { ErrorKey } from './error-key';
import { METRIC_NAMES } from './metric-names';
import { maskSets } from './model';
import { useRun } from './run-context';
import { Scrubber } from './scrubber';
import { usePictures } from './use-pictures';
import { CividisScale, maskTitle, Palette, PanelView, usePanel } from './viewer';

export function MasksTab() {
  const { job } = useRun();
  const panel = usePanel();
  const spatial = panel.masks();
  const channel = panel.masks('mask_channel');
  if (!job.methods.length) return <Empty title="A student alone has no masks" />;
  return (
    <>
      <Scrubber />
      <div className="row">
        <CividisScale />
      </div>
      <div className="panels many">
        <PanelView title="Image" panel={panel.find('image')} />
        {[...spatial, ...channel].map((mask) => (
          <PanelView key={`${mask.kind}${mask.caption}${mask.index}`} title={maskTitle(mask)} panel={mask} stats />
        ))}
      </div>
      <RankChart />
    </>
  );
}

/** Effective rank of every mask set: 1 is a collapse, the number of masks is full use. */
function RankChart() {
  const { job, ref } = useRun();
  const { marks, range } = useAttemptMarks();
  const answer = useQuery(metricsQuery(ref, METRIC_NAMES)).data;
  const sets = maskSets(answer?.names ?? []);
  const series = sets.flatMap((set) => answer?.series.filter((line) => line.name === set.rank) ?? []);
  if (!series.length) return null;
  const { x, ys } = align(series);
  return (
    <Chart
      title="Effective masks"
      note={sets.map((set) => `${set.label}: ${set.masks}`).join(', ')}
      {...{ x, ys, marks, range }}
      yRange={[0, null]}
      lines={sets.map((set, index) => ({
        label: set.label,
        color: runColor(job.methods),
        dash: index ? [3 * index, 3] : undefined,
      }))}
      height={160}
      format={(value) => fixed(value, 1)}
    />
  );
}

export function PredictionsTab() {
  const { panels, playback } = useRun();
  const pictures = usePictures({ kind: ['prediction', 'error'] });
  if (!panels.images.length || playback.shown === undefined) return <Scrubber />;
  const kinds = ['image', 'truth', 'prediction', 'error', 'teacher'].filter((kind) =>
    panels.images.some((image) => pictures.find(image, kind)),
  );
  return (
    <>
      <Scrubber />
      <Palette />
      {kinds.includes('error') && <ErrorKey />}
      {panels.images.map((image) => (
        <div key={image} className="panels strip-of" style={{ gridTemplateColumns: `repeat(${kinds.length}, minmax(0, 1fr))` }}>
          {kinds.map((kind) => (
            <PanelView
              key={kind}
              title={kind === 'image' ? `Image ${image}` : kind[0]!.toUpperCase() + kind.slice(1)}
              panel={pictures.find(image, kind)}
            />
          ))}
        </div>
      ))}
    </>
  );
}
