/** One stream a page, over fetch (so that it can carry a key): reconnects, replays from the last number seen. */
import { apiKey } from './client';
import { SseParser } from './sse';
import type { StreamEvent } from './types';

export type FeedStatus = 'connecting' | 'open' | 'lost';

export interface FeedOptions {
  /** Query of `/api/v1/events`: `jobs=a,b` or `scope=project`. */
  query: string;
  onEvent: (event: StreamEvent) => void;
  onStatus: (status: FeedStatus) => void;
  /** Called at every reconnect: what was not replayed is fetched again. */
  onGap?: () => void;
  fetcher?: typeof fetch;
  wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Heartbeats arrive every few seconds; a connection silent for longer is dead, whatever TCP believes. */
const SILENCE_MS = 40_000;
const LONGEST_WAIT_MS = 10_000;

export class Feed {
  /** Last sequence number of each job: the numbers are a job's own. */
  private readonly seen = new Map<string, number>();
  private lastId = '';
  private readonly stopper = new AbortController();

  constructor(private readonly options: FeedOptions) {}

  stop(): void {
    this.stopper.abort();
  }

  async run(): Promise<void> {
    const wait = this.options.wait ?? sleep;
    let failures = 0;
    let first = true;
    while (!this.stopper.signal.aborted) {
      this.options.onStatus(failures ? 'lost' : 'connecting');
      const opened = await this.connect(first).catch(() => false);
      if (this.stopper.signal.aborted) return;
      if (opened) first = false;
      failures = opened ? 1 : failures + 1;
      this.options.onStatus('lost');
      await wait(Math.min(LONGEST_WAIT_MS, 500 * 2 ** (failures - 1)), this.stopper.signal).catch(() => undefined);
    }
  }

  /** Reads until the connection ends; true if it was ever open. */
  private async connect(first: boolean): Promise<boolean> {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    this.stopper.signal.addEventListener('abort', abort);
    let watchdog = setTimeout(abort, SILENCE_MS);
    let opened = false;
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream', ...apiKey.headers() };
      if (this.lastId) headers['Last-Event-ID'] = this.lastId;
      const response = await (this.options.fetcher ?? fetch)(`/api/v1/events?${this.options.query}`, {
        headers,
        signal: attempt.signal,
        cache: 'no-store',
      });
      if (!response.ok || !response.body) return false;
      opened = true;
      this.options.onStatus('open');
      if (!first) this.options.onGap?.();
      const parser = new SseParser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return true;
        clearTimeout(watchdog);
        watchdog = setTimeout(abort, SILENCE_MS);
        for (const message of parser.feed(decoder.decode(value, { stream: true }))) this.take(message.data, message.id);
      }
    } catch {
      return opened;
    } finally {
      clearTimeout(watchdog);
      this.stopper.signal.removeEventListener('abort', abort);
    }
  }

  private take(data: string, id: string): void {
    let event: StreamEvent;
    try {
      event = JSON.parse(data) as StreamEvent;
    } catch {
      return;
    }
    if (id) this.lastId = id;
    if (typeof event.seq === 'number') {
      // A replay may overlap with what arrived before the connection broke.
      if (event.seq <= (this.seen.get(event.job) ?? 0)) return;
      this.seen.set(event.job, event.seq);
    }
    this.options.onEvent(event);
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
