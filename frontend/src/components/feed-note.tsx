import { IconPlugConnectedX } from '@tabler/icons-react';
import type { FeedStatus } from '@/api/feed';

/** Says so when the page no longer hears the server. While it does, there is nothing to say. */
export function FeedNote({ status }: { status: FeedStatus }) {
  if (status !== 'lost') return null;
  return (
    <span className="state warn" role="status">
      <IconPlugConnectedX size={14} aria-hidden /> not live, reconnecting
    </span>
  );
}
