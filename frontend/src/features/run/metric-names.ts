/** What the run page draws, in one query, so that the live tail is one small request. */
export const METRIC_NAMES = 'loss/*,lr,kd/*,mask/*/effective_rank,mask/*/collapsed';
