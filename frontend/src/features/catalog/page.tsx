import { useQuery } from '@tanstack/react-query';
import { catalogQuery } from '@/api/catalog';
import type { components } from '@/api/schema';
import { Command } from '@/components/command';
import '@/components/library.css';
import { Problem } from '@/components/problem';
import { runColor } from '@/lib/colors';
import { macs, parameters } from '@/lib/format';
import { optionRows } from './options';
import { Recipes } from './recipes';

type OptionFacts = components['schemas']['OptionFacts'];

/** What can be combined, drawn from what the server itself accepts. */
export function CatalogPage() {
  const catalog = useQuery(catalogQuery());
  if (catalog.error) return <Problem error={catalog.error} onRetry={() => void catalog.refetch()} />;
  if (!catalog.data) return <div className="skeleton" style={{ height: 480 }} aria-label="Loading" />;
  const { presets, families, methods, architectures, datasets, exports, backbones, num_classes: classes } = catalog.data;
  const [height, width] = catalog.data.image_size;
  return (
    <div className="library">
      <div className="row">
        <h1>Catalog</h1>
        <span className="grow" />
        <span className="only-wide"><Command text="acamkd models" /></span>
      </div>
      <section>
        <h2>Presets</h2>
        <p className="muted">Counted with {classes} classes and one {width} x {height} image (classifiers: 1000 classes, 224 x 224), without the auxiliary head.</p>
        <div className="scroll">
          <table className="grid two">
            <thead>
              <tr>
                <th>Preset</th>
                <th className="only-wide">Family</th>
                <th className="num">Parameters</th>
                <th className="num">MACs</th>
                <th className="only-wide">Levels: name, channels, stride</th>
              </tr>
            </thead>
            <tbody>
              {presets.map((preset) => (
                <tr key={preset.name}>
                  <td>
                    <code className="mono">{preset.name}</code>
                    <span className="only-narrow second">{preset.arch.family}: {preset.levels.map(({ name }) => name).join(' ')}</span>
                  </td>
                  <td className="only-wide muted">{preset.arch.family}</td>
                  <td className="num" title={preset.inference_parameters.toLocaleString('en-US')}>{parameters(preset.inference_parameters)}</td>
                  <td className="num" title={preset.macs.toLocaleString('en-US')}>{macs(preset.macs)}</td>
                  <td className="only-wide mono muted" style={{ maxWidth: 520 }}>
                    {preset.levels.map(({ name, channels, stride }) => `${name} ${channels}/${stride || 'all'}`).join('  ')}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <Recipes />
      <Options title="Methods" rows={methods} tag="method" swatch />
      <Options title="Families" rows={architectures} tag="family" note={(name) => families.find((family) => family.name === name)?.presets.join(', ')} />
      <section>
        <h2>Backbones</h2>
        <div className="scroll">
          <table className="grid lines">
            <thead>
              <tr><th>Backbone</th><th className="num">Parameters</th><th>Channels</th></tr>
            </thead>
            <tbody>
              {backbones.map((backbone) => (
                <tr key={backbone.name}>
                  <td><code className="mono">{backbone.name}</code></td>
                  <td className="num">{parameters(backbone.parameters)}</td>
                  <td className="mono muted">{Object.entries(backbone.channels).map(([level, channels]) => `${level} ${channels}`).join('  ')}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <Options title="Datasets" rows={datasets} tag="format" />
      <Options title="Exports" rows={exports} tag="format" />
    </div>
  );
}

interface Props {
  title: string;
  rows: OptionFacts[];
  tag: string;
  swatch?: boolean;
  note?: (name: string) => string | undefined;
}

function Options({ title, rows, tag, swatch, note }: Props) {
  return (
    <section>
      <h2>{title}</h2>
      {rows.map((row) => (
        <details key={row.name} className="fold">
          <summary>
            {swatch && <span className="swatch" style={{ background: runColor([row.name]), marginRight: 8 }} />}
            <b className="mono">{row.name}</b>
            <span className="muted">{row.title}</span>
          </summary>
          {row.description !== row.title && <p className="muted">{row.description}</p>}
          {note?.(row.name) && <p className="muted">Presets: {note(row.name)}</p>}
          <div className="scroll">
            <table className="grid wrap-help lines">
              <thead>
                <tr><th>Option</th><th>Values</th><th>Default</th><th>What it does</th></tr>
              </thead>
              <tbody>
                {optionRows(row.options, tag).map((option) => (
                  <tr key={option.name}>
                    <td className="mono">{option.name}</td>
                    <td className="mono muted">{option.kind}</td>
                    <td className="mono" data-label="default">{option.standard}</td>
                    <td className="help">{option.help}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </details>
      ))}
    </section>
  );
}
