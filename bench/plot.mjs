import * as vega from 'vega';
import { compile } from 'vega-lite';

/**
 * One point of a curve.
 * @typedef {{ row: string, x: number, y: number }} Point
 */

/**
 * A plot with logarithmic axes and a curve for each row, as SVG.
 * @param {{ title: string, x: string, y: string, points: readonly Point[] }} what `x` and `y` are the titles of the axes
 * @returns {Promise<string>}
 */
export async function plot({ title, x, y, points }) {
  const ticks = [...new Set(points.map((point) => point.x))];
  const { spec } = compile({
    title,
    width: 480,
    height: 300,
    background: 'white',
    data: { values: [...points] },
    mark: { type: 'line', point: true },
    encoding: {
      x: {
        field: 'x',
        type: 'quantitative',
        title: x,
        scale: { type: 'log' },
        axis: { values: ticks, format: ',d' },
      },
      y: {
        field: 'y',
        type: 'quantitative',
        title: y,
        scale: { type: 'log', nice: false },
        axis: { format: '~g' },
      },
      color: { field: 'row', type: 'nominal', title: null, legend: { labelLimit: 0 } },
    },
  });
  const svg = await new vega.View(vega.parse(spec), { renderer: 'none' }).toSVG();
  return `${svg}\n`;
}
