import { useQuery } from '@tanstack/react-query';
import { Link, useSearch } from '@tanstack/react-router';
import { IconDownload } from '@tabler/icons-react';
import type { components } from '@/api/schema';
import { modelsQuery } from '@/api/models';
import { Empty } from '@/components/command';
import { DownloadLink } from '@/components/download-link';
import '@/components/library.css';
import { Problem } from '@/components/problem';
import { ago, parameters, points } from '@/lib/format';
import { primaryMetric, sharedLabel } from '@/lib/metric';
import { useNow } from '@/lib/use-now';
import { AliasTags } from './aliases';
import { byName, type Group } from './group';

type ModelInfo = components['schemas']['ModelInfo'];

export function ModelsPage() {
  const models = useQuery(modelsQuery());
  const { name } = useSearch({ from: '/models' });
  const groups = byName(models.data?.items ?? []).filter((group) => name === undefined || group.name === name);
  return (
    <>
      <div className="head">
        <h1>Models</h1>
        <span className="muted tabular">{models.data ? `${models.data.total} version${models.data.total === 1 ? '' : 's'}` : ''}</span>
        {name && <Link className="link" to="/models">all models</Link>}
      </div>
      {models.error && <Problem error={models.error} onRetry={() => void models.refetch()} />}
      {models.isPending && !models.error && <div className="skeleton" style={{ height: 240 }} aria-label="Loading" />}
      {models.data && groups.length === 0 && (
        <Empty title={name ? `No model named ${name}` : 'No models yet'} command="acamkd submit job.yaml --watch">
          <span>Every run that succeeds leaves a model under the run's name; specs call it <code className="mono">model:name@latest</code>.</span>
        </Empty>
      )}
      {groups.length > 0 && <Versions groups={groups} />}
    </>
  );
}

/** One row a version; a name stands once, before its newest. */
function Versions({ groups }: { groups: Group<ModelInfo>[] }) {
  const now = useNow(30_000);
  const label = sharedLabel(groups.flatMap((group) => group.versions.map((model) => model.task)));
  return (
    <div className="scroll">
      <table className="grid two">
        <thead>
          <tr>
            <th>Model</th>
            <th className="only-wide">Network</th>
            <th className="num only-wide">Version</th>
            <th className="only-wide">Aliases</th>
            <th className="num only-wide">Parameters</th>
            <th className="num">{label}, val</th>
            <th className="num">{label}, test</th>
            <th className="only-wide">Data</th>
            <th className="only-wide">Weights</th>
            <th className="only-wide">From</th>
            <th className="num only-wide">Made</th>
            <th className="only-wide" />
          </tr>
        </thead>
        <tbody>
          {groups.flatMap(({ name, versions }) =>
            versions.map((model, index) => (
              <tr key={model.id}>
                <td>
                  {index === 0 && <b style={{ fontWeight: 550 }}>{name}</b>}
                  <span className="only-narrow second">
                    <span>version {model.version}</span>
                    <AliasTags model={model} />
                    <span>{model.arch}, {parameters(model.parameters)}</span>
                    <Lineage model={model} />
                    <Download model={model} />
                  </span>
                </td>
                <td className="only-wide muted" title={`${model.classes.length} classes`}>{model.arch}</td>
                <td className="num only-wide">{model.version}</td>
                <td className="only-wide"><AliasTags model={model} /></td>
                <td className="num only-wide" title={model.parameters?.toLocaleString('en-US')}>{parameters(model.parameters)}</td>
                <td className="num">{points(score(model, 'checkpoint') ?? score(model, 'best'))}</td>
                <td className="num">{points(score(model, 'test'))}</td>
                <td className="only-wide muted">{model.dataset ?? '–'}</td>
                <td className="only-wide mono muted" title={model.weights_digest ?? undefined}>{model.weights_digest?.slice(0, 8) ?? '–'}</td>
                <td className="only-wide"><Lineage model={model} /></td>
                <td className="num only-wide muted" title={model.created_at}>{ago((now - Date.parse(model.created_at)) / 1000)}</td>
                <td className="only-wide"><Download model={model} /></td>
              </tr>
            )),
          )}
        </tbody>
      </table>
    </div>
  );
}

const score = (model: ModelInfo, of: 'checkpoint' | 'best' | 'test'): number | undefined =>
  model.metrics[`${of}/${primaryMetric(model.task).key}`];

const Lineage = ({ model }: { model: ModelInfo }) =>
  model.job ? (
    <Link className="link" to="/runs/$job" params={{ job: model.job }} search={{ tab: 'artifacts' }}>its run</Link>
  ) : (
    <span className="muted">–</span>
  );

const Download = ({ model }: { model: ModelInfo }) => (
  <DownloadLink artifact={model.artifact} name={`${model.name}-${model.version}.safetensors`}>
    <IconDownload size={14} aria-hidden /> safetensors
  </DownloadLink>
);
