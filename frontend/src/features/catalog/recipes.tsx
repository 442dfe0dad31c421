import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { recipesQuery, type Recipe } from '@/api/recipes';
import { Command } from '@/components/command';
import { primaryMetric } from '@/lib/metric';

/** A paper's figure as it is printed: 41.0, 78.07. */
const printed = (value: number): string => (Number.isInteger(value) ? value.toFixed(1) : String(value));

/** Rows of the papers' tables: what was printed, and a job that starts from it. */
export function Recipes() {
  const recipes = useQuery(recipesQuery());
  if (!recipes.data) return null;
  return (
    <section>
      <div className="row">
        <h2>Recipes</h2>
        <span className="grow" />
        <span className="only-wide"><Command text="acamkd recipes" /></span>
      </div>
      <p className="muted">Jobs for the rows of the papers' tables. Numbers are the printed ones; none has been reproduced unless its row says so.</p>
      <div className="scroll">
        <table className="grid two wrap-help">
          <thead>
            <tr>
              <th>Recipe</th>
              <th className="only-wide">Teacher</th>
              <th className="only-wide">Student</th>
              <th className="num">Printed</th>
              <th className="only-wide">Source</th>
            </tr>
          </thead>
          <tbody>{recipes.data.recipes.map((recipe) => <Row key={recipe.name} recipe={recipe} />)}</tbody>
        </table>
      </div>
    </section>
  );
}

function Row({ recipe }: { recipe: Recipe }) {
  return (
    <tr>
      <td>
        <Link className="link mono" to="/new" search={{ recipe: recipe.name }}>{recipe.name}</Link>
        <span className="only-narrow second">{recipe.teacher ? `${recipe.teacher} to ` : ''}{recipe.student}</span>
      </td>
      <td className="only-wide muted">{recipe.teacher ?? 'alone'}</td>
      <td className="only-wide muted">{recipe.student}</td>
      <td className="num">{recipe.expected ? `${printed(recipe.expected.value)} ${primaryMetric(recipe.task).label}` : ''}</td>
      <td className="only-wide help">{recipe.source}{recipe.status === 'reproduced' && ' (reproduced here)'}</td>
    </tr>
  );
}
