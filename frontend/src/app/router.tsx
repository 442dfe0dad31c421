import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, redirect } from '@tanstack/react-router';
import { Empty } from '@/components/command';
import {
  parseCompareSearch, parseNameSearch, parseNewSearch, parseRunSearch, parseRunsSearch, parseSearch, stringifySearch,
} from '@/lib/url';
import { Shell } from './shell';

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => (
    <Empty title="There is no such page">
      <Link to="/runs">To the runs</Link>
    </Empty>
  ),
});
const under = () => root;

const routes = [
  createRoute({
    getParentRoute: under,
    path: '/',
    beforeLoad: () => {
      throw redirect({ to: '/runs' });
    },
  }),
  createRoute({
    getParentRoute: under,
    path: '/runs',
    validateSearch: parseRunsSearch,
    component: lazyRouteComponent(() => import('@/features/runs/page'), 'RunsPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/runs/$job',
    validateSearch: parseRunSearch,
    component: lazyRouteComponent(() => import('@/features/run/page'), 'RunPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/compare',
    validateSearch: parseCompareSearch,
    component: lazyRouteComponent(() => import('@/features/compare/page'), 'ComparePage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/new',
    validateSearch: parseNewSearch,
    component: lazyRouteComponent(() => import('@/features/new-job/page'), 'NewJobPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/datasets',
    validateSearch: parseNameSearch,
    component: lazyRouteComponent(() => import('@/features/datasets/page'), 'DatasetsPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/models',
    validateSearch: parseNameSearch,
    component: lazyRouteComponent(() => import('@/features/models/page'), 'ModelsPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/workers',
    component: lazyRouteComponent(() => import('@/features/workers/page'), 'WorkersPage'),
  }),
  createRoute({
    getParentRoute: under,
    path: '/catalog',
    validateSearch: parseNameSearch,
    component: lazyRouteComponent(() => import('@/features/catalog/page'), 'CatalogPage'),
  }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(routes),
  parseSearch,
  stringifySearch,
  defaultPreload: 'intent',
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
