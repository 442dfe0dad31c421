// @vitest-environment happy-dom
import { expect, it } from 'vitest';
import { Feed, type FeedStatus } from './feed';
import { SseParser } from './sse';
import type { StreamEvent } from './types';

it('parses chunks that end anywhere', () => {
  const whole = ': open\r\nretry: 2000\n\nid: a:1\nevent: progress\ndata: {"x":\ndata: 1}\n\ndata:second\r\r';
  for (let cut = 1; cut < whole.length; cut += 1) {
    const parser = new SseParser();
    const messages = [...parser.feed(whole.slice(0, cut)), ...parser.feed(whole.slice(cut)), ...parser.feed('\n')];
    expect(messages, `cut at ${cut}`).toEqual([
      { event: 'progress', data: '{"x":\n1}', id: 'a:1' },
      { event: 'message', data: 'second', id: 'a:1' },
    ]);
  }
});

const event = (job: string, seq: number): string =>
  `id: ${job}:${seq}\ndata: ${JSON.stringify({ job, name: job, seq, kind: 'log', data: {} })}\n\n`;

/** A server that gives one stream a connection and notes what each was asked with. */
function server(streams: string[][]) {
  const asked: (string | null)[] = [];
  const fetcher = (async (_url: string, init: RequestInit) => {
    asked.push(new Headers(init.headers).get('Last-Event-ID'));
    const chunks = streams.shift();
    if (!chunks) return new Response(null, { status: 503 });
    const encoder = new TextEncoder();
    return new Response(
      new ReadableStream({
        start(controller) {
          chunks.forEach((chunk) => controller.enqueue(encoder.encode(chunk)));
          controller.close();
        },
      }),
    );
  }) as unknown as typeof fetch;
  return { asked, fetcher };
}

it('reconnects with the last id, drops what it has seen, and says when it is lost', async () => {
  const { asked, fetcher } = server([[event('a', 1), event('a', 2)], [event('a', 2), event('a', 3) + event('b', 1)]]);
  const events: StreamEvent[] = [];
  const statuses: FeedStatus[] = [];
  const waits: number[] = [];
  let gaps = 0;
  const feed = new Feed({
    query: 'jobs=a,b',
    onEvent: (item) => events.push(item),
    onStatus: (status) => statuses.push(status),
    onGap: () => (gaps += 1),
    fetcher,
    wait: async (ms) => {
      waits.push(ms);
      if (waits.length === 5) feed.stop();
    },
  });
  await feed.run();
  expect(events.map(({ job, seq }) => `${job}${seq}`)).toEqual(['a1', 'a2', 'a3', 'b1']);
  expect(asked.slice(0, 3)).toEqual([null, 'a:2', 'b:1']);
  expect(gaps).toBe(1);
  expect(statuses.at(-1)).toBe('lost');
  // A connection that was open is retried at once; refused ones wait longer each time.
  expect(waits).toEqual([500, 500, 1000, 2000, 4000]);
});
