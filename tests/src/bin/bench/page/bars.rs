//! Bars that lie one below another, each with its median and a whisker from least to most.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::report::{short, spread};

const WIDTH: i32 = 900;
const HEAD: i32 = 48;
const STEP: i32 = 30;
const THICK: i32 = 18;
/// Where the bars begin, and how long the longest is: the rest is for its value.
const LEFT: i32 = 300;
const LONGEST: i32 = 480;
/// Values further apart than this are drawn by their logarithm.
const LINEAR_MAX: f64 = 30.0;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const YARDSTICK: RGBColor = RGBColor(0x6b, 0x6b, 0x6b);
const RIVALS: RGBColor = RGBColor(0xc9, 0xb2, 0x8f);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);

/// Who reached it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Ours,
    Yardstick,
    Rivals,
}

/// One bar.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    whose: Whose,
    median: f64,
    least: f64,
    most: f64,
}

impl Bar {
    pub(super) fn new(name: &str, whose: Whose, values: &[f64]) -> Self {
        let (median, least, most) = spread(values);
        Self { name: name.to_owned(), whose, median, least, most }
    }
}

/// How long a bar of a value is.
struct Scale {
    origin: f64,
    end: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(bars: &[Bar]) -> Self {
        let most = bars.iter().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
        let positive = bars.iter().map(|bar| bar.least).filter(|&value| value > 0.0);
        let least = positive.fold(most, f64::min);
        let is_logarithmic = most / least > LINEAR_MAX;
        // A bar of the least value is to be seen, too.
        let origin = if is_logarithmic { least.log10() - 0.3 } else { 0.0 };
        Self { origin, end: if is_logarithmic { most.log10() } else { most }, is_logarithmic }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a share of the longest bar")]
    fn length(&self, value: f64) -> i32 {
        let value = if self.is_logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (value - self.origin) / (self.end - self.origin);
        (share.clamp(0.0, 1.0) * f64::from(LONGEST)) as i32
    }
}

/// An SVG of `bars`.
pub(super) fn draw(title: &str, bars: &[Bar]) -> Result<String> {
    let scale = Scale::of(bars);
    let mut svg = String::new();
    let height = HEAD + STEP * i32::try_from(bars.len())?;
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw_on(&area, title, bars, &scale).map_err(|error| anyhow!("{title}: {error}"))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_on(
    area: &Area<'_>,
    title: &str,
    bars: &[Bar],
    scale: &Scale,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    area.fill(&WHITE)?;
    let title = if scale.is_logarithmic { format!("{title} (logarithmic)") } else { title.to_owned() };
    let font = |size: i32| ("sans-serif", size).into_font().color(&INK);
    area.draw(&Text::new(title, (12, 12), font(22)))?;
    for (bar, top) in bars.iter().zip((HEAD..).step_by(STEP.unsigned_abs() as usize)) {
        let color = match bar.whose {
            Whose::Ours => OURS,
            Whose::Yardstick => YARDSTICK,
            Whose::Rivals => RIVALS,
        };
        let end = LEFT + scale.length(bar.median);
        area.draw(&Text::new(bar.name.clone(), (12, top + 2), font(17)))?;
        area.draw(&Rectangle::new([(LEFT, top), (end, top + THICK)], color.filled()))?;
        let (middle, [least, most]) =
            (top + THICK / 2, [bar.least, bar.most].map(|value| LEFT + scale.length(value)));
        area.draw(&PathElement::new([(least, middle), (most, middle)], INK))?;
        area.draw(&Text::new(short(bar.median), (end.max(most) + 8, top + 2), font(17)))?;
    }
    area.present()
}
