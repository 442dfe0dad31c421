import { Tabs } from '@mantine/core';
import type { ReactNode } from 'react';
import { RUN_TABS, type RunTab } from '@/lib/url';
import { useRun } from './run-context';
import { ArtifactsTab } from './tab-artifacts';
import { AttemptsTab } from './tab-attempts';
import { LogsTab } from './tab-logs';
import { MasksTab, PredictionsTab } from './tab-pictures';
import { OverviewTab } from './tab-overview';
import { SpecTab } from './tab-spec';
import { SystemTab } from './tab-system';

const PARTS: Record<RunTab, () => ReactNode> = {
  overview: OverviewTab,
  masks: MasksTab,
  predictions: PredictionsTab,
  system: SystemTab,
  logs: LogsTab,
  spec: SpecTab,
  artifacts: ArtifactsTab,
  attempts: AttemptsTab,
};

export function RunTabs() {
  const { job, search, set } = useRun();
  const offered = RUN_TABS.filter((tab) => job.kind === 'distill' || !['masks', 'predictions', 'system'].includes(tab));
  const tab = search.tab && offered.includes(search.tab) ? search.tab : 'overview';
  const Part = PARTS[tab];
  return (
    <Tabs
      value={tab}
      onChange={(next) => set({ tab: next === 'overview' ? undefined : (next as RunTab) })}
      className="tabs"
    >
      <Tabs.List>
        {offered.map((name) => (
          <Tabs.Tab key={name} value={name}>
            {name[0]!.toUpperCase() + name.slice(1)}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      <Tabs.Panel value={tab} pt={12}>
        <Part />
      </Tabs.Panel>
    </Tabs>
  );
}
