/** Where an upload is: chosen, going over, being unpacked by the server, refused. */
export type UploadState =
  | { step: 'idle' }
  | { step: 'sending'; sent: number; total: number }
  | { step: 'unpacking' }
  | { step: 'refused'; message: string };

export type UploadEvent =
  | { kind: 'start'; total: number }
  | { kind: 'sent'; sent: number; total: number }
  | { kind: 'refused'; message: string }
  | { kind: 'ended' };

export function nextUpload(state: UploadState, event: UploadEvent): UploadState {
  switch (event.kind) {
    case 'start':
      return { step: 'sending', sent: 0, total: event.total };
    case 'sent':
      // A late report must not bring an ended or refused upload back.
      if (state.step !== 'sending') return state;
      return event.sent >= event.total ? { step: 'unpacking' } : { step: 'sending', sent: event.sent, total: event.total };
    case 'refused':
      return { step: 'refused', message: event.message };
    case 'ended':
      return { step: 'idle' };
  }
}

/** A file's name as a dataset's: `My Street (v2).zip` becomes `my-street-v2`. */
export const nameFromFile = (file: string): string =>
  file
    .replace(/\.zip$/i, '')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+|[-.]+$/g, '')
    .slice(0, 80);

export const nameProblem = (name: string): string | null =>
  name === '' || /^[a-z0-9][a-z0-9._-]{0,79}$/.test(name) ? null : 'lower-case letters, digits, . _ -, at most 80';
