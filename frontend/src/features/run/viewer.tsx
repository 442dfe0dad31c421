import { CIVIDIS } from '@/lib/colors';
import { fixed } from '@/lib/format';
import { Picture } from '@/components/picture';
import type { PanelInfo } from '@/api/types';
import { classColors } from './model';
import { useRun } from './run-context';
import { Scrubber } from './scrubber';
import { useImage, usePictures } from './use-pictures';

/** The chosen image, and the one panel of a kind at the evaluation on show. */
export function usePanel() {
  const image = useImage();
  const pictures = usePictures({ image });
  return {
    image,
    find: (kind: string) => (image === undefined ? undefined : pictures.find(image, kind)),
    masks: (kind?: string) => (image === undefined ? [] : pictures.masks(image, kind)),
  };
}

export function PanelView({ title, panel, stats }: { title: string; panel: PanelInfo | undefined; stats?: boolean }) {
  const { mean, std } = panel?.stats ?? {};
  return (
    <figure className="panel">
      <Picture artifact={panel?.artifact} alt={`${title}, image ${panel?.image ?? ''} at ${panel?.iteration ?? ''}`} />
      <figcaption className="clip">
        {title}
        {stats && mean !== undefined && (
          <span className="muted tabular">
            {' '}
            mean {fixed(mean, 2)} sd {fixed(std, 2)}
          </span>
        )}
      </figcaption>
    </figure>
  );
}

/** The right third of the overview: an image, what the student makes of it, and a mask, moving together. */
export function Viewer() {
  const panel = usePanel();
  const mask = panel.masks()[0] ?? panel.masks('mask_channel')[0];
  return (
    <section className="viewer">
      <div className="row">
        <h2>Validation image {panel.image ?? ''}</h2>
      </div>
      <div className="panels two">
        <PanelView title="Image" panel={panel.find('image')} />
        <PanelView title="Prediction" panel={panel.find('prediction')} />
        <PanelView title="Truth" panel={panel.find('truth')} />
        {mask ? (
          <PanelView title={maskTitle(mask)} panel={mask} stats />
        ) : (
          <PanelView title="Error" panel={panel.find('error')} />
        )}
      </div>
      <Scrubber />
      {mask && <CividisScale />}
    </section>
  );
}

export const maskTitle = (panel: PanelInfo): string =>
  panel.caption || `${panel.kind === 'mask_channel' ? 'Channel mask' : 'Mask'} ${panel.index}`;

export function CividisScale() {
  return (
    <div className="scale muted tabular" aria-label="Mask values: cividis from 0 to 1, the same for all">
      0 <i style={{ background: `linear-gradient(90deg, ${CIVIDIS.join(', ')})` }} /> 1 <span>fixed scale</span>
    </div>
  );
}

export function Palette() {
  const { job } = useRun();
  return (
    <div className="palette">
      {Object.entries(classColors(job)).map(([name, color]) => (
        <span key={name} className="state">
          <span className="swatch" style={{ background: color, outline: '1px solid var(--line-strong)' }} /> {name}
        </span>
      ))}
    </div>
  );
}
