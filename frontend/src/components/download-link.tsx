import type { MouseEvent, ReactNode } from 'react';
import { apiKey, download, downloadPath } from '@/api/client';

/** A link to a file. With an API key the file is fetched first, because a link cannot send one. */
export function DownloadLink({ artifact, name, children }: { artifact: string; name: string; children: ReactNode }) {
  const path = downloadPath(artifact);
  const fetchWithKey = async (event: MouseEvent) => {
    if (apiKey.get() === null) return;
    event.preventDefault();
    const url = URL.createObjectURL(await download(path));
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <a className="link state" href={path} download={name} onClick={(event) => void fetchWithKey(event)}>
      {children}
    </a>
  );
}
