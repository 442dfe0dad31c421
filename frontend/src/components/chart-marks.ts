import type uPlot from 'uplot';

export interface Mark {
  x: number;
  label: string;
}

/** A colour variable of the theme, for the canvas. */
export const ink = (element: HTMLElement, name: string): string => getComputedStyle(element).getPropertyValue(name).trim();

/** Draws what every chart shows besides its lines: resumes, the chosen evaluation, and values that are not numbers. */
export function drawMarks(
  plot: uPlot,
  element: HTMLElement,
  marks: Mark[] = [],
  broken: number[] = [],
  chosen: number | null = null,
): void {
  const { ctx, bbox } = plot;
  const scale = devicePixelRatio;
  const inside = (x: number) => x >= (plot.scales.x!.min ?? 0) && x <= (plot.scales.x!.max ?? 0);
  const at = (x: number) => Math.round(plot.valToPos(x, 'x', true)) + 0.5;
  const line = (x: number, color: string, dash: number[] = []) => {
    ctx.strokeStyle = color;
    ctx.lineWidth = scale;
    ctx.setLineDash(dash);
    ctx.beginPath();
    ctx.moveTo(at(x), bbox.top);
    ctx.lineTo(at(x), bbox.top + bbox.height);
    ctx.stroke();
  };
  ctx.save();
  ctx.font = `${11 * scale}px 'Inter Variable', sans-serif`;
  ctx.textBaseline = 'top';
  ctx.textAlign = 'left';
  for (const mark of marks.filter((item) => inside(item.x))) {
    line(mark.x, ink(element, '--line-strong'));
    ctx.fillStyle = ink(element, '--muted');
    ctx.fillText(mark.label, at(mark.x) + 4 * scale, bbox.top);
  }
  if (chosen !== null && inside(chosen)) line(chosen, ink(element, '--ink'), [2 * scale, 2 * scale]);
  for (const x of broken.filter(inside)) {
    line(x, ink(element, '--bad'));
    ctx.fillStyle = ink(element, '--bad');
    ctx.textAlign = at(x) > bbox.left + bbox.width - 40 * scale ? 'right' : 'left';
    ctx.fillText('NaN', at(x) + (ctx.textAlign === 'right' ? -4 : 4) * scale, bbox.top + 14 * scale);
    ctx.textAlign = 'left';
  }
  ctx.restore();
}
