/** A picture from the artifact store. With an API key it is fetched, because an <img> cannot send one. */
import { useQuery } from '@tanstack/react-query';
import { type RefObject, useEffect, useRef, useState } from 'react';
import { apiKey, download, downloadPath } from '@/api/client';
import { keys } from '@/api/keys';

interface Size {
  width: number;
  height: number;
}

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
  const [size, setSize] = useState<Size>();
  const frame = useRef<HTMLSpanElement>(null);
  const enlarged = useEnlarged(frame, size);
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
      setSize({ width: image.naturalWidth, height: image.naturalHeight });
    };
    return () => {
      current = false;
    };
  }, [source]);
  return (
    <span ref={frame} className={enlarged ? 'picture enlarged' : 'picture'} style={{ aspectRatio: size ? size.width / size.height : ratio }}>
      {shown && <img src={shown} alt={alt} draggable={false} />}
    </span>
  );
}

/** Whether a pixel of the picture takes at least one of the screen. Only then are its edges kept hard: made smaller that way, it would lose whole lines. */
function useEnlarged(frame: RefObject<HTMLSpanElement | null>, size: Size | undefined): boolean {
  const [enlarged, setEnlarged] = useState(true);
  useEffect(() => {
    if (!frame.current || !size) return;
    const watch = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      setEnlarged(Math.min(width / size.width, height / size.height) * devicePixelRatio >= 1);
    });
    watch.observe(frame.current);
    return () => watch.disconnect();
  }, [frame, size]);
  return enlarged;
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
