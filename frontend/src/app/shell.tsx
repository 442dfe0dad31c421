import { ActionIcon, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { Link, Outlet, useNavigate } from '@tanstack/react-router';
import {
  IconBooks, IconBox, IconColumns3, IconMoon, IconPhoto, IconPlayerPlay, IconPlus, IconServer, IconSun,
} from '@tabler/icons-react';
import { useState } from 'react';
import { useKeys } from '@/lib/use-keys';
import { KeyHelp } from './key-help';
import { Palette, openPalette } from './palette';

export const PLACES = [
  { to: '/runs', label: 'Runs', icon: IconPlayerPlay },
  { to: '/new', label: 'New run', icon: IconPlus },
  { to: '/datasets', label: 'Datasets', icon: IconPhoto },
  { to: '/models', label: 'Models', icon: IconBox },
  { to: '/workers', label: 'Workers', icon: IconServer },
  { to: '/catalog', label: 'Catalog', icon: IconBooks },
  { to: '/compare', label: 'Compare', icon: IconColumns3 },
] as const;

/** The URL is the view, on every page. */
async function copyAddress(): Promise<void> {
  await navigator.clipboard.writeText(location.href);
  notifications.show({ message: 'Address of this view copied', autoClose: 1500 });
}

export function Shell() {
  const [help, setHelp] = useState(false);
  const navigate = useNavigate();
  useKeys({ '?': () => setHelp(true), n: () => void navigate({ to: '/new' }), y: () => void copyAddress() });
  return (
    <div className="shell">
      <nav className="rail" aria-label="Main">
        <Link to="/runs" className="brand">
          <img src="/favicon.svg" alt="" />
          <span>ACAM-KD</span>
        </Link>
        {PLACES.map(({ to, label, icon: Icon }) => (
          <Link key={to} to={to} className="nav">
            <Icon size={16} stroke={1.6} aria-hidden />
            {label}
          </Link>
        ))}
        <div className="foot">
          <button type="button" className="plain" onClick={openPalette} aria-label="Ctrl K: search">
            <span className="kbd">Ctrl K</span>
          </button>
          <ColorScheme />
          <button type="button" className="plain" onClick={() => setHelp(true)} aria-label="Keyboard shortcuts (?)">
            <span className="kbd">?</span>
          </button>
        </div>
      </nav>
      <main className="page">
        <Outlet />
      </main>
      <Palette places={PLACES} />
      <KeyHelp opened={help} onClose={() => setHelp(false)} />
    </div>
  );
}

function ColorScheme() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme('light') === 'dark';
  return (
    <Tooltip label={dark ? 'Light' : 'Dark'}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size="sm"
        aria-label={dark ? 'Use the light theme' : 'Use the dark theme'}
        onClick={() => setColorScheme(dark ? 'light' : 'dark')}
      >
        {dark ? <IconSun size={15} /> : <IconMoon size={15} />}
      </ActionIcon>
    </Tooltip>
  );
}
