import { IconAlertTriangle, IconCircleCheck, IconLoader2 } from '@tabler/icons-react';
import type { DatasetInfo } from '@/api/datasets';

export function DatasetState({ dataset }: { dataset: DatasetInfo }) {
  if (dataset.state === 'inspecting') {
    return <span className="state"><IconLoader2 size={14} className="link turn" aria-hidden />being inspected</span>;
  }
  if (dataset.state === 'failed') {
    return <span className="state bad"><IconAlertTriangle size={14} aria-hidden />inspection failed</span>;
  }
  if (dataset.errors > 0) {
    return <span className="state bad"><IconAlertTriangle size={14} aria-hidden />not usable</span>;
  }
  return <span className="state"><IconCircleCheck size={14} className="good" aria-hidden />ready</span>;
}
