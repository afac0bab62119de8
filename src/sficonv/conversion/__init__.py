"""The compiler that puts SFIConv into whole backbones, and folds them for judging."""
