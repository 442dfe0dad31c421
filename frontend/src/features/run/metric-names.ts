/** What the run page draws, in one query, so that the live tail is one small request. */
import { primaryNames } from '@/lib/metric';

export const METRIC_NAMES = `${primaryNames('val')},loss/*,lr,kd/*,mask/*/effective_rank,mask/*/collapsed`;
