import { Button, FileButton, NativeSelect, Progress, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useReducer, useRef, useState } from 'react';
import { ApiError } from '@/api/client';
import { registerDataset, uploadDataset, type DatasetFormat, type DatasetTask } from '@/api/datasets';
import { keys } from '@/api/keys';
import { bytes } from '@/lib/format';
import { nameFromFile, nameProblem, nextUpload } from './upload-state';

/** A folder that the server can read, or a zip from this machine. Both are inspected at once. */
export function AddDataset() {
  return (
    <div className="add-dataset">
      <Register />
      <Upload />
    </div>
  );
}

function useAdded() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (name: string) => {
    void queries.invalidateQueries({ queryKey: keys.datasets.all });
    void navigate({ to: '/datasets', search: { name } });
  };
}

const words = (error: Error): string =>
  error instanceof ApiError && error.hint ? `${error.message} (${error.hint})` : error.message;

// Records, so that a format or task that the server gains is missed by the compiler, not by a user.
const FORMATS: Record<DatasetFormat, string> = {
  auto: 'Detect it',
  mask_folder: 'Mask folder',
  cityscapes: 'Cityscapes',
  coco: 'COCO',
  voc: 'Pascal VOC',
  yolo: 'YOLO',
  image_folder: 'Image folder',
};
const TASKS: Record<DatasetTask, string> = { semantic_segmentation: 'Masks', detection: 'Boxes', classification: 'Classes' };

const choices = (labels: Record<string, string>) => Object.entries(labels).map(([value, label]) => ({ value, label }));

function Register() {
  const added = useAdded();
  const [path, setPath] = useState('');
  const [name, setName] = useState('');
  const [format, setFormat] = useState<DatasetFormat>('auto');
  const [task, setTask] = useState<DatasetTask | ''>('');
  const chosen = name || nameFromFile(path.replace(/\/+$/, '').split('/').at(-1) ?? '');
  const register = useMutation({
    mutationFn: () => registerDataset({ name: chosen, path, format, task: task || null }),
    onSuccess: (dataset) => added(dataset.name),
  });
  const field = register.error instanceof ApiError ? register.error.problems[0]?.field : null;
  const text = register.error ? words(register.error) : null;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (path && chosen && !nameProblem(chosen)) register.mutate();
      }}
    >
      <h2>Register a folder</h2>
      <TextInput
        label="Folder"
        description="On the server, under one of its dataset roots"
        placeholder="camvid"
        value={path}
        error={field === 'name' ? null : text}
        onChange={(event) => setPath(event.currentTarget.value)}
      />
      <TextInput
        label="Name"
        placeholder={chosen}
        value={name}
        error={nameProblem(name) ?? (field === 'name' ? text : null)}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <span className="row">
        <NativeSelect
          label="Format"
          data={choices(FORMATS)}
          value={format}
          onChange={(event) => setFormat(event.currentTarget.value as DatasetFormat)}
        />
        <NativeSelect
          label="Labels"
          data={[{ value: '', label: 'What there is, masks first' }, ...choices(TASKS)]}
          value={task}
          onChange={(event) => setTask(event.currentTarget.value as DatasetTask | '')}
        />
      </span>
      <Button type="submit" variant="filled" disabled={!path || !chosen || nameProblem(chosen) !== null} loading={register.isPending}>
        Register
      </Button>
    </form>
  );
}

function Upload() {
  const added = useAdded();
  const [file, setFile] = useState<File | null>(null);
  const [name, setName] = useState('');
  const [state, dispatch] = useReducer(nextUpload, { step: 'idle' });
  const stop = useRef<AbortController | null>(null);
  const busy = state.step === 'sending' || state.step === 'unpacking';
  const choose = (next: File | null) => {
    setFile(next);
    if (next) setName(nameFromFile(next.name));
    dispatch({ kind: 'ended' });
  };
  const send = async () => {
    if (!file) return;
    stop.current = new AbortController();
    dispatch({ kind: 'start', total: file.size });
    try {
      const onSent = (sent: number, total: number) => dispatch({ kind: 'sent', sent, total });
      const dataset = await uploadDataset(name, file, onSent, stop.current.signal);
      dispatch({ kind: 'ended' });
      added(dataset.name);
    } catch (error) {
      dispatch({ kind: 'refused', message: words(error as Error) });
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy) void send();
      }}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        choose(event.dataTransfer.files[0] ?? null);
      }}
    >
      <h2>Upload a zip</h2>
      <span className="muted">
        Any format that is detected: mask folder, COCO, VOC, YOLO, Cityscapes, or one folder a class. Drop it here, or
      </span>
      <span className="row">
        <FileButton accept=".zip,application/zip" onChange={choose}>
          {(props) => <Button {...props} disabled={busy}>Choose a file</Button>}
        </FileButton>
        {file && <span className="tabular">{file.name}, {bytes(file.size)}</span>}
      </span>
      <TextInput label="Name" value={name} error={nameProblem(name)} disabled={busy} onChange={(event) => setName(event.currentTarget.value)} />
      {state.step === 'sending' && (
        <div className="row">
          <Progress className="grow" value={(100 * state.sent) / Math.max(1, state.total)} aria-label="Sent" />
          <span className="tabular muted">{bytes(state.sent)} of {bytes(state.total)}</span>
        </div>
      )}
      {state.step === 'unpacking' && <span className="muted">The server unpacks and checks it.</span>}
      {state.step === 'refused' && <span className="bad" role="alert">{state.message}</span>}
      <span className="row">
        <Button type="submit" variant="filled" disabled={!file || !name || nameProblem(name) !== null || busy}>Upload</Button>
        {busy && <Button onClick={() => stop.current?.abort()}>Stop</Button>}
      </span>
    </form>
  );
}
