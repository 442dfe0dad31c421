/** A picture from the artifact store. With an API key it is fetched, because an <img> cannot send one. */
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { apiKey, download, downloadPath } from '@/api/client';
import { keys } from '@/api/keys';

interface Props {
  artifact: string | undefined;
  alt: string;
  /** Width over height until the picture is there, so that the page does not move. */
  ratio?: number;
}

export function Picture({ artifact, alt, ratio = 3 / 2 }: Props) {
  const source = useSource(artifact);
  // The picture before stays until the next one is decoded: playing must not flicker.
  const [shown, setShown] = useState<string>();
  const [size, setSize] = useState<number>();
  useEffect(() => {
    if (!source) {
      setShown(undefined);
      return;
    }
    let current = true;
    const image = new Image();
    image.src = source;
    image.onload = () => {
      if (!current) return;
      setShown(source);
      setSize(image.naturalWidth / image.naturalHeight);
    };
    return () => {
      current = false;
    };
  }, [source]);
  return (
    <span className="picture" style={{ aspectRatio: size ?? ratio }}>
      {shown && <img src={shown} alt={alt} draggable={false} />}
    </span>
  );
}

function useSource(artifact: string | undefined): string | undefined {
  const keyed = apiKey.get() !== null;
  const fetched = useQuery({
    queryKey: keys.picture(artifact ?? ''),
    queryFn: async () => URL.createObjectURL(await download(downloadPath(artifact!, true))),
    enabled: keyed && artifact !== undefined,
    staleTime: Infinity,
    // Object URLs live as long as the page: artifacts never change, and a run has some hundreds at most.
    gcTime: Infinity,
  });
  if (artifact === undefined) return undefined;
  return keyed ? fetched.data : downloadPath(artifact, true);
}
