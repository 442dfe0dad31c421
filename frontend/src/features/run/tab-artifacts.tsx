import { useQuery } from '@tanstack/react-query';
import { IconCircleCheck, IconDownload, IconHelpCircle } from '@tabler/icons-react';
import { artifactsQuery } from '@/api/jobs';
import type { ArtifactInfo } from '@/api/types';
import { Empty } from '@/components/command';
import { DownloadLink } from '@/components/download-link';
import { Problem } from '@/components/problem';
import { bytes, count, fixed, value } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { useRun } from './run-context';

const ORDER = ['bundle', 'export', 'checkpoint', 'report', 'panel'];

export function ArtifactsTab() {
  const { job, ref } = useRun();
  const artifacts = useQuery(artifactsQuery(ref));
  if (artifacts.error) return <Problem error={artifacts.error} />;
  const rows = [...(artifacts.data ?? [])].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  if (artifacts.data && !rows.length) {
    return <Empty title="No files yet" command={`acamkd download ${job.name}`} />;
  }
  return (
    <div className="scroll">
      <table className="grid lines">
        <thead>
          <tr>
            <th>File</th>
            <th>Kind</th>
            <th className="num">Size</th>
            <th className="num">Iteration</th>
            <th>Gate</th>
            <th>SHA-256</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((item) => (
            <tr key={item.id}>
              <td>
                <DownloadLink artifact={item.id} name={item.name}>
                  <IconDownload size={14} aria-hidden /> {item.name}
                </DownloadLink>
              </td>
              <td className="muted">
                {item.kind} {item.format}
              </td>
              <td className="num">{bytes(item.bytes)}</td>
              <td className="num muted" data-label="it">{count(item.iteration)}</td>
              <td title={value(item.details)}>
                <Gate item={item} />
              </td>
              <td className="mono muted" title={item.sha256}>
                {item.sha256.slice(0, 12)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Verified means: re-scored from the file alone, in a process without the training framework. */
function Gate({ item }: { item: ArtifactInfo }) {
  const gate = (item.details?.gate ?? {}) as Record<string, number | undefined>;
  const { key } = primaryMetric(useRun().job.task);
  const numbers = [
    gate[key] !== undefined && `file ${fixed(gate[key], 2)}`,
    gate[`checkpoint_${key}`] !== undefined && `checkpoint ${fixed(gate[`checkpoint_${key}`], 2)}`,
    gate.agreement !== undefined && `agreement ${fixed(gate.agreement, 2)} %`,
  ]
    .filter(Boolean)
    .join(', ');
  if (item.verified === true) {
    return (
      <span className="state good">
        <IconCircleCheck size={14} aria-hidden /> verified <span className="muted tabular">{numbers}</span>
      </span>
    );
  }
  if (item.verified === false) {
    return (
      <span className="state warn">
        <IconHelpCircle size={14} aria-hidden /> unverified <span className="muted tabular">{numbers}</span>
      </span>
    );
  }
  return <span className="muted">–</span>;
}
