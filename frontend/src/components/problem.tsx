import { Button, PasswordInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { IconAlertTriangle } from '@tabler/icons-react';
import { useState } from 'react';
import { ApiError, apiKey } from '@/api/client';

/** Any failed call, as the server worded it; a missing key becomes a field for the key. */
export function Problem({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  if (error instanceof ApiError && error.status === 401) return <KeyPrompt message={error.message} />;
  const hint = error instanceof ApiError ? error.hint : null;
  return (
    <div className="strip error" role="alert">
      <IconAlertTriangle size={16} className="bad" />
      <div className="grow">
        {error.message}
        {hint && <span className="muted"> {hint}</span>}
      </div>
      {onRetry && <Button onClick={onRetry}>Try again</Button>}
    </div>
  );
}

function KeyPrompt({ message }: { message: string }) {
  const queries = useQueryClient();
  const [key, setKey] = useState('');
  return (
    <form
      className="empty"
      onSubmit={(event) => {
        event.preventDefault();
        apiKey.set(key.trim() || null);
        void queries.resetQueries();
      }}
    >
      <h2>This server asks for an API key</h2>
      <span>{message}</span>
      <PasswordInput w={280} aria-label="API key" value={key} onChange={(event) => setKey(event.currentTarget.value)} />
      <Button type="submit" variant="filled">Continue</Button>
    </form>
  );
}
