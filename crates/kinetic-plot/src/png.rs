//! The picture in pixels, drawn from the SVG with a font of its own, so that it looks the same everywhere.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use crate::svg::{HEIGHT, WIDTH};

/// DejaVu Sans, cut down to Latin, Greek and Cyrillic; its licence stands beside it.
static FONT: &[u8] = include_bytes!("../font/DejaVuSans-subset.ttf");
/// Pixels of the picture per CSS pixel, for screens that have them.
const SCALE: f64 = 2.0;

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Why there is no picture.
#[derive(Debug)]
pub struct NoPicture(String);

impl std::fmt::Display for NoPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the picture cannot be drawn: {}", self.0)
    }
}

impl std::error::Error for NoPicture {}

/// A PNG of what [`svg`](crate::svg()) has drawn: 1200 by 480 pixels.
///
/// # Errors
/// When the text is no SVG. What `svg` writes always is one.
pub fn png(svg: &str) -> Result<Vec<u8>, NoPicture> {
    let options =
        Options { fontdb: Arc::clone(&FONTS), font_family: "DejaVu Sans".to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| NoPicture(error.to_string()))?;
    let (width, height) = ((WIDTH * SCALE) as u32, (HEIGHT * SCALE) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| NoPicture("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(SCALE as f32, SCALE as f32), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| NoPicture(error.to_string()))
}
