//! What can be typed to `larder array`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::Join;
use crate::keys::Key;
use crate::size::Size;

/// Store arrays of other programs, write them out, and look at them
///
/// Arrays of NumPy (.npy, .npz) and of safetensors. A large array lies in a file of its own, which
/// NumPy opens by itself: `info` says where.
#[derive(Debug, clap::Args)]
pub(crate) struct Array {
    #[command(subcommand)]
    pub(crate) command: ArrayCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArrayCommand {
    Import(ArrayImport),
    Export(ArrayExport),
    Info(ArrayInfo),
    #[command(visible_alias = "list")]
    Ls(ArrayLs),
}

/// Store the arrays of a file
///
/// What the file is, its first bytes say. The array of a .npy file gets KEY; each array of a .npz
/// archive, or of a .safetensors file, gets KEY, a slash and its name, or only its name if KEY is
/// empty. Numbers of the other byte order are turned around; C and Fortran order stay. Creates the
/// store if there is none. Ends with 1 if some arrays could not be stored.
#[derive(Debug, clap::Args)]
pub(crate) struct ArrayImport {
    /// Directory of the store
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The key, or what keys begin with: text, or bytes as 0x and hex digits
    pub(crate) key: Key,
    /// A file of NumPy or safetensors
    pub(crate) file: PathBuf,
    /// Of several arrays only this one, or these
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Let them expire after this time, as in 90s, 15m or 2days
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Return when they survive the loss of power
    #[arg(long)]
    pub(crate) sync: bool,
    /// Budget of the store, beyond which it evicts [default: 1GiB for a new store, none for
    /// one that is there]
    #[arg(long)]
    pub(crate) disk: Option<Size>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write an array to a NumPy file
///
/// Every byte is compared with its checksum. The file replaces one that is there, when it is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct ArrayExport {
    /// Directory of the store, which is only read
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The key: text, or bytes as 0x and hex digits
    pub(crate) key: Key,
    /// The file, such as array.npy
    pub(crate) file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say what an array is and where it lies
#[derive(Debug, clap::Args)]
pub(crate) struct ArrayInfo {
    /// Directory of the store, which is only read
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// The key: text, or bytes as 0x and hex digits
    pub(crate) key: Key,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the arrays of a store, in no order
///
/// Their elements are not read. Arrays in namespaces and queues are left out.
#[derive(Debug, clap::Args)]
pub(crate) struct ArrayLs {
    /// Directory of the store, which is only read
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) join: Join,
    /// Print one JSON object per array, each on a line of its own
    #[arg(long)]
    pub(crate) json: bool,
}
